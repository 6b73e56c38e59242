"""Small indexes and environments for the tests of the set-up, and what they hold."""

import base64
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.markers import Marker

from locks import install
from tests.conftest import ROOT

LIMIT_S = 600
WHEEL = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path, name: str, version: str, *metadata: str) -> str:
    """Writes a wheel of one empty package; returns its entry for a lock."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, ""]
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(lines),
        f"{info}/WHEEL": WHEEL,
    }
    record = "".join(f"{path},{record_hash(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(inside, text)
    return (
        f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
    )


def record_hash(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def forge_newer(wheel: Path) -> Path:
    """The same wheel as version 9999: what an index has when its project has released."""
    name, version, rest = wheel.name.split("-", 2)
    forged = wheel.with_name(f"{name}-9999-{rest}")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(forged, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member.endswith(".dist-info/METADATA"):
                content = content.replace(f"\nVersion: {version}".encode(), b"\nVersion: 9999", 1)
            new.writestr(member.replace(f"{name}-{version}.", f"{name}-9999.", 1), content)
    return forged


def make_environment(venv: Path, *distributions: str) -> Path:
    """An empty environment with copies of some of this one's distributions; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next((venv / "lib").glob("python*/site-packages"))
    for name in distributions:
        for file in importlib.metadata.distribution(name).files or ():
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(file.locate()).is_file() and not target.exists():
                shutil.copy2(file.locate(), target)
    return venv / "bin" / "python"


def has_uv() -> bool:
    """Whether this environment has the uv that the set-up takes."""
    (pin,) = (pin for pin in install.read_lock(install.SETUP_LOCK) if pin.name == "uv")
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return found.get("uv") == pin.version


def offline(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a set-up whose only index is this folder."""
    inherited = {
        name: os.environ[name] for name in os.environ if not name.startswith(("PIP_", "UV_"))
    }
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    return inherited | pip | {"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"} | more


def set_up(
    python: Path, lock: str, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Runs a project's own copy of the script, in its environment."""
    return subprocess.run(
        [python, "-m", "locks.install", lock],
        cwd=python.parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def versions(python: Path) -> dict[str, str]:
    """What an environment holds, as another library sees it: {name: version}."""
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    found = importlib.metadata.distributions(path=[str(site)])
    return {
        one.metadata["Name"].lower().replace("_", "-").replace(".", "-"): one.version
        for one in found
    }


def locked_versions(lock: Path) -> dict[str, str]:
    """What a lock names for this machine, read line by line: {name: version}."""
    found = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            requirement, _, marker = line.rstrip("\\ ").partition(";")
            name, version = requirement.strip().split("==")
            if not marker or Marker(marker).evaluate():
                found[name] = version
    return found


BACKEND = """import shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("stemforge-1-py3-none-any.whl", folder).split("/")[-1]
"""


def make_project(root: Path) -> Path:
    """A checkout's set-up and, as its package, a wheel made before; the folder of its locks."""
    (root / "locks").mkdir(parents=True)
    for name in ("__init__.py", "index.py", "install.py", "setup.lock"):
        shutil.copy(ROOT / "locks" / name, root / "locks")
    make_wheel(root, "stemforge", "1")
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "stemforge"\nversion = "1"\n'
        # What uv refuses beside --require-hashes where it reads it.
        '[tool.uv]\nconstraint-dependencies = ["gamma<1"]\n'
    )
    return root / "locks"
