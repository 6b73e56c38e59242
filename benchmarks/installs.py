"""Size and time of each extra's installation: README's table.

    python -m benchmarks.installs [EXTRA ...]

Builds the wheel from the sdist and installs it with each extra alone into an empty environment,
one after the other, by uv, without caches, in the versions of locks/dev.lock. MB are 1e6 bytes of
files, seconds include the downloads.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from locks import index
from locks.install import LOCKS, read_lock

ROOT = LOCKS.parent
PURPOSES = {
    "": "`stemforge separate` with TFLite files",
    "live": "`stemforge live`: sound devices",
    "score": "`stemforge score`: museval's scores of estimates, leaderboards",
    "features": "the feature job, alone or on Beam's workers",
    "train": "training, and `separate` with model directories",
    "export": "`stemforge export`: SavedModel and TFLite files",
    "repro": "`dvc repro`",
    "gpu": "`dvc repro` on NVIDIA GPUs, instead of `repro`",
    "ffmpeg": "ffmpeg and ffprobe where the machine has none",
    "gs": "files on gs://",
    "gcp": "Dataflow, and DVC on gs://",
}


def build_wheel(folder: Path) -> Path:
    """Builds the tracked tree's sdist, and the wheel from it."""
    tree = folder / "tree"
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).exists():  # a copy, so that the build leaves nothing in the tree
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name, follow_symlinks=False)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("stemforge-*.whl")
    return wheel


def install(wheel: Path, extra: str, venv: Path, *, cached: bool) -> Path:
    """Installs the wheel with one extra (or several, or none) into a new environment.

    Returns:
        The environment's Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    settings = index.pip_settings()
    constraints = venv / "constraints.txt"
    pins = read_lock(LOCKS / ("gpu.lock" if extra == "gpu" else "dev.lock"))
    lines = [f"{pin.name}=={pin.version}" + (pin.marker and f" ; {pin.marker}") for pin in pins]
    constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config"]
    command += ["--python", str(venv / "bin" / "python"), *index.uv_flags(settings)]
    command += [] if cached else ["--no-cache"]
    what = f"stemforge[{extra}] @ {wheel.as_uri()}"
    subprocess.run(
        [*command, "-c", constraints, what], check=True, env=index.uv_environment(settings)
    )
    return venv / "bin" / "python"


def size_mb(folder: Path) -> float:
    """The bytes of all its files, in millions."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.installs", description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="default: all of them")
    extras = parser.parse_args().extras or PURPOSES
    print("| install | what for | MB | s |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(Path(name))
        for extra in extras:
            venv = Path(name) / "venv"
            start = time.monotonic()
            install(wheel, extra, venv, cached=False)
            seconds = time.monotonic() - start
            called = f"`stemforge[{extra}]`" if extra else "`stemforge`"
            row = f"| {called} | {PURPOSES[extra]} | {size_mb(venv):.0f} | {seconds:.0f} |"
            print(row, flush=True)
            shutil.rmtree(venv)


if __name__ == "__main__":
    main()
