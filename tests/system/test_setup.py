"""A clone set up from a folder of wheels that holds newer versions, by few programs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import locked
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
# What a checkout needs, as README says: git, bash, make, coreutils and Python.
PROGRAMS = ("git", "bash", "make", "cat", "echo", "env", "ls", "mkdir", "rm", "test", "touch")
# Small, and asked for by others without a bound; setuptools and wheel build what has no wheel.
RELEASED = ("certifi", "packaging", "protobuf", "requests", "setuptools", "wheel", "wrapt")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every file of locks/repro.lock and setup.lock, and newer versions of some of them."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--require-hashes", "--dest", str(folder)]
    for lock in ("setup", "repro"):
        done = subprocess.run(
            [*command, "-r", str(ROOT / "locks" / f"{lock}.lock")], capture_output=True, text=True
        )
        if done.returncode and "HASHES" not in done.stderr:
            pytest.skip(f"no package index here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    for name in RELEASED:
        (wheel,) = folder.glob(f"{name}-*.whl")
        locked.forge_newer(wheel)
    yield folder
    shutil.rmtree(folder)  # most of a gigabyte


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH that holds the programs above and Python, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    (folder / "python3").write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
    (folder / "python3").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_clone_gets_exactly_the_lock(
    tmp_path: Path, wheels: Path, bare_path: str, installer: str
) -> None:
    if installer == "pip":
        for wheel in wheels.glob("uv-*.whl"):
            wheel.unlink()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    # The environment of a user, but for what this one sets: only the folder is an index.
    variables = locked.offline(wheels, PATH=bare_path, HOME=str(tmp_path), TMPDIR=str(tmp_path))
    variables.pop("PYTHONPATH", None)
    for expected in ("Setting up .venv", "Nothing to be done"):
        done = subprocess.run(
            ["make", "setup"],
            cwd=clone, env=variables, capture_output=True, text=True, timeout=locked.LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        assert expected in done.stdout
        assert not done.stderr
    found = locked.versions(clone / ".venv" / "bin" / "python")
    assert not {name for name, version in found.items() if version == "9999"}
    uv = locked.locked_versions(ROOT / "locks" / "setup.lock")["uv"]
    assert found.pop("uv", None) == (uv if installer == "uv" else None)
    for name in ("pip", "stemforge"):
        del found[name]
    assert found == locked.locked_versions(clone / "locks" / "repro.lock")
    # The command runs, from a folder that is no checkout.
    done = subprocess.run(
        [clone / ".venv" / "bin" / "stemforge", "--version"],
        cwd=tmp_path, env={"PATH": os.defpath}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("stemforge ")
    shutil.rmtree(clone)
