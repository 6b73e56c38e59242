"""The benchmarks of speed against the peers, one after the other: `make bench`.

    python -m benchmarks.suite CORPUS_ROOT [--only NAME ...] [--spleeter-python PYTHON]

Each is a process of its own with fewer turns than by itself. Spleeter has one environment for all
but `peers`, which makes those of its three peers. What one prints is printed; one that fails does
not stop the others, and the exit code is then 1.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import common
from benchmarks.common import SPLEETER

CORPUS, WORK, PYTHON = "CORPUS", "WORK", "PYTHON"
# The names and their command lines.
SUITE: dict[str, tuple[str, ...]] = {
    "separate": ("--spleeter-python", PYTHON, "--seconds", "60", "--turns", "3"),
    "peers": ("--seconds", "60", "--turns", "2"),
    "songs": ("--turns", "1"),
    "features": (CORPUS, "--spleeter-python", PYTHON, "--runs", "1", "--minutes"),
    "reader": (CORPUS, "--work", WORK, "--spleeter-python", PYTHON, "--runs", "2"),
    "train_step": (CORPUS, "--work", WORK, "--spleeter-python", PYTHON, "--batches", "4",
                   "--turns", "3"),
    "bss_eval": ("--seconds", "60", "--turns", "1"),
    "scale": ("--turns", "1"),
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    parser.add_argument("--only", nargs="+", choices=SUITE, metavar="NAME", help=" ".join(SUITE))
    parser.add_argument(
        "--spleeter-python", type=Path, metavar="PYTHON",
        help=f"of an environment with {SPLEETER} (default: one is made, by pip)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    names = arguments.only or list(SUITE)
    with tempfile.TemporaryDirectory() as folder:
        values = {CORPUS: str(arguments.corpus.resolve()), WORK: str(Path(folder) / "work")}
        if any(PYTHON in SUITE[name] for name in names):
            values[PYTHON] = str(python(arguments.spleeter_python, Path(folder)))
        failed = [name for name in names if not run(name, values)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def python(given: Path | None, folder: Path) -> Path | None:
    """Spleeter's interpreter."""
    wanted = argparse.Namespace(without_spleeter=False, spleeter_python=given)
    return common.spleeter_python(wanted, folder / "spleeter")


def run(name: str, values: Mapping[str, str]) -> bool:
    """Runs a benchmark with its time and its tables on standard output; whether it succeeded."""
    line = [values.get(word, word) for word in SUITE[name]]
    print(f"## {name}\n", flush=True)
    done: list[int] = []

    def work() -> None:
        command = [sys.executable, "-m", f"benchmarks.{name}", *line]
        done.append(subprocess.run(command, check=False).returncode)

    print(f"\n({common.timed(work) / 60:.1f} min)\n", flush=True)
    return done == [0]


if __name__ == "__main__":
    main()
