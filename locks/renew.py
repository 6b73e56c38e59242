"""Renews the locks after a change of pyproject.toml: python -m locks.renew [all | PACKAGE ...].

Versions that still fit stay, except those of the named packages (or all). The locks hold versions
and hashes but no addresses, so they work with any package index.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from locks import index
from locks.install import LOCKS, SetupError, get_uv, read_lock, run

OPTIONS = (
    "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
    "--quiet",
)  # fmt: skip
# dev first: the others take its versions. The last four are deploy/docker's.
EXTRAS: dict[str, tuple[str, ...]] = {
    "dev": ("dev", "ffmpeg"),
    "repro": ("repro", "ffmpeg"),
    "gpu": ("gpu", "ffmpeg"),
    "features": ("features", "gs", "ffmpeg"),
    "train": ("train", "gs"),
    "train-gpu": ("train", "gs"),
    "separate": (),
}


def upgrades(packages: list[str]) -> list[str]:
    """The flags of uv for the packages whose newest version is wanted."""
    if packages == ["all"]:
        return ["--upgrade"]
    return [flag for name in packages for flag in ("--upgrade-package", name)]


def tensorflow_version() -> str:
    """The version of the CPU build, which dev.lock holds; the GPU build has the same."""
    (version,) = {
        pin.version for pin in read_lock(LOCKS / "dev.lock") if pin.name == "tensorflow-cpu"
    }
    return version


def build_flags(name: str, folder: Path) -> list[str]:
    """The flags of uv that choose TensorFlow's build.

    Args:
        name: the lock.
        folder: where files of requirements for uv may be written.
    """
    if name not in ("gpu", "train-gpu"):
        return []
    pin, instead = folder / "pin.txt", folder / "instead.txt"
    pin.write_text(f"tensorflow=={tensorflow_version()}\n", encoding="utf-8")
    if name == "gpu":
        return ["-c", str(pin)]
    # Extra `train` names the CPU build, whose files the GPU build would share.
    pin.write_text(f"tensorflow[and-cuda]=={tensorflow_version()}\n", encoding="utf-8")
    instead.write_text("tensorflow-cpu ; python_version < '0'\n", encoding="utf-8")
    return [str(pin), "--override", str(instead), "-c", str(LOCKS / "gpu.lock")]


def compile_lock(name: str, *arguments: str) -> None:
    """Resolves one lock; versions in the file are kept where they fit."""
    settings = index.pip_settings()
    command = ("uv", "pip", "compile", *OPTIONS, *index.uv_flags(settings), *arguments)
    output = str(LOCKS / f"{name}.lock")
    try:
        run(*command, "-o", output, environment=index.uv_environment(settings))
    except SetupError as error:
        raise SetupError(f"cannot renew {name}.lock: {error}") from None


def renew(packages: list[str]) -> None:
    """Resolves all locks, dev.lock first.

    Raises:
        SetupError: uv is not available, or the requirements contradict each other.
    """
    if get_uv() is None:
        raise SetupError(
            "cannot install uv, which renews the locks: check that the package index is reachable"
        )
    project, same = str(LOCKS.parent / "pyproject.toml"), ("-c", str(LOCKS / "dev.lock"))
    with tempfile.TemporaryDirectory() as folder:
        for name, extras in EXTRAS.items():
            chosen = [flag for extra in extras for flag in ("--extra", extra)]
            chosen += build_flags(name, Path(folder))
            constraints = () if name == "dev" else same
            compile_lock(name, *upgrades(packages), *chosen, *constraints, project)
    compile_lock("setup", *upgrades(packages), "--group", f"{project}:setup", *same)


def main() -> None:
    """Renews the locks, with the newest version of what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m locks.renew", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="`all` for every package")
    try:
        renew(parser.parse_args().packages)
    except SetupError as error:
        print(f"locks: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
