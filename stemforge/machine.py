"""What this machine's CPU can do."""

import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# x86 and Arm name them differently.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_flags() -> frozenset[str]:
    """Names of the CPU's instruction sets, from Linux; empty on other systems."""
    if not CPUINFO.exists():
        return frozenset()
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(encoding="utf-8"), re.M)
    return frozenset(" ".join(lines).split())


def has_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions; without them software is much slower."""
    return bool(BFLOAT16_FLAGS & cpu_flags())
