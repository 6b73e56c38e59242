"""deploy/docker's images, built by buildah and run as their users.

No registry is asked: the bases are Debian's Python 3.11 as debootstrap makes it. In place of Beam's
image stands the same with another NumPy, which the workers' environment must not see. The oracles
are what this machine computes, and the locks.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from locks import index
from locks.install import normalised
from stemforge.eval.exports import files as export
from stemforge.train.model_files import tflite_name
from tests import locked
from tests.conftest import RATE_HZ, ROOT
from tests.factories import untrained
from tests.processes import stemforge
from tests.test_runtimes_tensorflow import NETS, trained

pytestmark = pytest.mark.slow
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
PACKAGES = "ca-certificates,libgomp1,python3.11,python3.11-venv,python3-pip"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
OTHER_NUMPY = "2.3.5"
USER = 1000
LIMIT_S = 1800


def run(*command: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT
    )
    assert done.returncode == code, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@dataclass(frozen=True)
class Builder:
    """buildah with a store of its own.

    Attributes:
        folder: of the store.
        pip: what pip must know of this machine's index.
    """

    folder: Path
    pip: Path

    def buildah(self, *arguments: str | Path, code: int = 0) -> str:
        store = ("--root", self.folder / "store", "--runroot", self.folder / "run")
        return run("buildah", *store, *arguments, code=code)

    def build(self, name: str, *arguments: str | Path) -> None:
        secret = f"id=pip,src={self.pip}"
        flags = ("--isolation", "chroot", "--secret", secret, "--tag", name)
        self.buildah("build", *flags, *arguments)


@dataclass(frozen=True)
class Image:
    """A container of one target."""

    builder: Builder
    container: str

    def run(self, *command: str, code: int = 0, **mounts: Path) -> str:
        """Runs a command as the image's user; mounts[x] is at /x."""
        volumes = [f"--volume={path}:/{name}" for name, path in mounts.items()]
        flags = ("--isolation", "chroot", *volumes, self.container, "--")
        return self.builder.buildah("run", *flags, *command, code=code)

    def config(self) -> dict[str, object]:
        told = json.loads(self.builder.buildah("inspect", self.container))
        config: dict[str, object] = told["OCIv1"]["config"]
        return config

    def versions(self) -> dict[str, str]:
        script = (
            "import json\nfrom importlib.metadata import distributions\n"
            "print(json.dumps({d.metadata['Name']: d.version for d in distributions()}))"
        )
        found = json.loads(self.run("python", "-c", script))
        return {normalised(name): version for name, version in found.items()}


def make_base(builder: Builder, settings: dict[str, str]) -> None:
    """Images `python` and `beam`."""
    root = builder.folder / "debian"
    told = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root],
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    if told.returncode:
        pytest.skip(f"debootstrap: {told.stdout.strip().splitlines()[-1]}")
    shutil.copy(settings.get("cert", Path("/") / CERTIFICATES), root / CERTIFICATES)
    container = builder.buildah("from", "scratch").strip()
    builder.buildah("add", "--quiet", container, root, "/")
    builder.buildah("commit", "--quiet", container, "localhost/python")
    shutil.rmtree(root)
    recipe = builder.folder / "beam.Dockerfile"
    recipe.write_text(
        "FROM localhost/python\n"
        "RUN --mount=type=secret,id=pip,target=/etc/pip.conf "
        f"pip install --break-system-packages --no-cache-dir numpy=={OTHER_NUMPY}\n"
        'ENTRYPOINT ["/opt/apache/beam/boot"]\n'
    )
    (builder.folder / "empty").mkdir()
    builder.build("localhost/beam", "--file", recipe, builder.folder / "empty")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None or os.geteuid() != 0:
            pytest.skip(f"needs {program} and root")
    folder = tmp_path_factory.mktemp("images")
    settings = index.pip_settings()
    lines = [f"{key} = {settings[key]}" for key in settings if key not in ("cert", "find-links")]
    pip = folder / "pip.conf"
    pip.write_text("\n".join(["[global]", *lines, f"cert = /{CERTIFICATES}"]) + "\n")
    builder = Builder(folder, pip)
    make_base(builder, settings)
    yield builder
    builder.buildah("rm", "--all")
    builder.buildah("rmi", "--all", "--force")
    shutil.rmtree(folder)


@pytest.fixture
def image(builder: Builder, request: pytest.FixtureRequest) -> Image:
    bases = ("--build-arg", "PYTHON=localhost/python", "--build-arg", "BEAM=localhost/beam")
    more = ("--build-arg", "REVISION=abc", "--target", request.param, "--file", DOCKERFILE)
    builder.build(f"localhost/{request.param}", *bases, *more, ROOT)
    return Image(builder, builder.buildah("from", f"localhost/{request.param}").strip())


def check_contents(image: Image, lock: str, *, kept: str = "") -> None:
    """The lock and this package; of the set-up's tools only `kept`."""
    expected = locked.locked_versions(ROOT / "locks" / f"{lock}.lock")
    found = image.versions()
    assert found.pop("stemforge")
    assert bool(found.pop(kept, None)) == bool(kept)
    assert found == expected
    readme = (DOCKERFILE.parent / "README.md").read_text(encoding="utf-8")
    (told_mb,) = re.findall(rf"^\| `{lock}` .* (\d+) \|$", readme, re.MULTILINE)
    found_mb = int(image.run("du", "-sm", "/opt/stemforge").split()[0])
    assert found_mb == pytest.approx(int(told_mb), rel=0.1), "deploy/docker/README.md"


def own(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)


@pytest.mark.parametrize("image", ["features"], indirect=True)
def test_features_makes_the_launchers_bytes(
    image: Image, tmp_path: Path, tiny_project: Path, tiny_corpus: Path
) -> None:
    check_contents(image, "features", kept="pip")
    # What Beam's boot does: it starts `python`, asks pip for Beam, and makes no environment.
    assert "Version: 2.77.0" in image.run("python", "-m", "pip", "show", "apache-beam")
    config = image.config()
    assert config["Entrypoint"] == ["/opt/apache/beam/boot"]
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in str(config["Env"])
    shutil.copy(tiny_project / "params.yaml", tmp_path)
    # Stem files, so that its ffmpeg decodes too.
    command = ("cd /work && stemforge features --corpus /corpus --output features",)
    image.run("sh", "-c", *command, work=tmp_path, corpus=tiny_corpus)
    made = str(tiny_project / "data" / "features")
    stemforge(tmp_path, "verify", "features", "--compare", made)


@pytest.mark.parametrize("image", ["separate"], indirect=True)
def test_separate_separates_with_tflite_files(image: Image, tmp_path: Path) -> None:
    check_contents(image, "separate")
    noise = np.random.default_rng(20261126).normal(0, 0.1, (2 * RATE_HZ, 2))
    soundfile.write(tmp_path / "song.wav", noise, RATE_HZ)
    net = trained(NETS["4stems"], ("vocals",), seed=0)
    (tmp_path / tflite_name("vocals", "float32")).write_bytes(export.to_tflite(net))
    own(tmp_path)
    flags = ("--model", ".", "--mask", "direct", "--subtype", "FLOAT", "--output")
    image.run("stemforge", "separate", "song.wav", *flags, "there", work=tmp_path)
    stemforge(tmp_path, "separate", "song.wav", *flags, "here")
    there, here = (tmp_path / name / "song" / "vocals.wav" for name in ("there", "here"))
    assert there.stat().st_uid == USER
    assert np.abs(soundfile.read(here)[0]).max() > 0.01
    np.testing.assert_allclose(soundfile.read(there)[0], soundfile.read(here)[0], atol=1e-6)


@pytest.mark.parametrize("image", ["train"], indirect=True)
def test_train_trains(image: Image, tmp_path: Path, tiny_project: Path) -> None:
    check_contents(image, "train")
    for name in ("there", "here"):
        untrained(tiny_project, tmp_path / name)
    stemforge(tmp_path / "here", "train", "--stem", "vocals")
    there = tmp_path / "there"
    (there / "data" / "features").unlink()
    shutil.copytree(tiny_project / "data" / "features", there / "data" / "features")
    own(there)
    image.run("stemforge", "train", "--stem", "vocals", work=there)
    weights = [
        np.load(tmp_path / name / "models" / "vocals" / "weights.npz") for name in ("here", "there")
    ]
    assert weights[0].files
    for name in weights[0].files:
        np.testing.assert_allclose(weights[1][name], weights[0][name], atol=1e-6)
