"""What a guide tells a phone's programmer: its Python runs, the Java port meets golden vectors."""

import json
import math
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal

from mobile.android import apk
from mobile.android.assets import write_assets
from stemforge.errors import UserError
from stemforge.eval.exports import files as export
from stemforge.eval.exports.parity import KerasNets, compare
from stemforge.eval.exports.vectors import write_vectors
from stemforge.eval.separation.separator import Separator
from stemforge.pipelines.releases.model_card import render
from tests.conftest import RATE_HZ, ROOT
from tests.test_exports_files import make
from tests.test_releases_model_card import PARITY, STEMS, write_release
from tests.test_web import small_models

SOURCES = [ROOT / "mobile" / "java", ROOT / "mobile" / "check"]
# Android's desugaring takes Java 8 everywhere.
COMPILE = ("javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-d")
needs_java = pytest.mark.skipif(
    shutil.which("javac") is None, reason="no JDK on PATH: the Java port is not tried"
)


def python_of(text: str) -> list[str]:
    """The Python snippets of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_snippet(code: str, **given: Any) -> dict[str, Any]:
    """The variables of a page's Python, run in the current folder."""
    values = dict(given)
    exec(code, values)
    return values


def test_the_pages_python_separates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    """A release's README.md and docs/mobile.md, word for word, against Keras and NumPy."""
    joint = make(STEMS)
    card = render(tmp_path, write_release(tmp_path), {"remark": None}, PARITY)["README.md"]
    monkeypatch.chdir(tmp_path)
    export.write_saved_model([joint], Path("exports/saved_model"))
    export.write_segment_tflite([joint], Path("exports/separate-16.tflite"), frames=16)
    shutil.copy("exports/separate-16.tflite", "exports/separate-128.tflite")
    song = random.normal(0, 0.2, (15 * 1024, 2)).astype(np.float32)
    segment = np.concatenate([np.zeros((4096, 2), np.float32), song])
    truth = Separator([KerasNets(joint)]).separate(song, sample_rate_hz=RATE_HZ)

    with_tensorflow, with_litert = python_of(card)
    (guide,) = python_of((ROOT / "docs" / "mobile.md").read_text(encoding="utf-8"))
    tensors = run_snippet(with_tensorflow, waveform=song)["stems"]
    stems = run_snippet(with_litert, segment=segment)["separated"]
    values = run_snippet(guide, segment=segment)
    assert set(tensors) == set(stems) == set(values["compiled"]) == set(STEMS)
    # The last 3072 samples get the rest from the next segment.
    whole = slice(4096, 16 * 1024)
    for stem in STEMS:
        np.testing.assert_allclose(tensors[stem].numpy(), truth[stem], atol=1e-5)
        heard = truth[stem][: 16 * 1024 - 4096]
        assert compare(stems[stem][whole], heard).relative_difference < 3e-3  # weights in float16
        np.testing.assert_array_equal(values["compiled"][stem], stems[stem])
        np.testing.assert_allclose(values["interpreted"][stem], stems[stem], atol=1e-6)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classes")
    sources = [path for folder in SOURCES for path in sorted(folder.rglob("*.java"))]
    subprocess.run([*COMPILE, out, *sources], check=True)
    return out


def check(classes: Path, vectors: Path) -> "subprocess.CompletedProcess[str]":
    command = ["java", "-cp", str(classes), "stemforge.check.CheckVectors", str(vectors)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@needs_java
@pytest.mark.parametrize("stems", [("vocals",), ("vocals", "rest", "drums")])
def test_the_port_computes_the_golden_vectors(
    classes: Path, tmp_path: Path, stems: tuple[str, ...], random: np.random.Generator
) -> None:
    nets = [KerasNets(make((stem,), seed=number)) for number, stem in enumerate(stems)]
    song = random.normal(0, 0.2, (3 * RATE_HZ // 2, 2)).astype(np.float32)  # 5 segments
    song[30_000:40_000] = 0.0
    write_vectors(tmp_path, song, nets)
    done = check(classes, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"output of {stems[-1]}" in done.stdout
    # It would see a difference.
    output = np.fromfile(tmp_path / "output_vocals.f32", "<f4")
    output[12345] += 2e-4
    output.tofile(tmp_path / "output_vocals.f32")
    assert check(classes, tmp_path).returncode == 1


@needs_java
@pytest.mark.parametrize(("from_hz", "to_hz"), [(48000, 44100), (22050, 44100), (44100, 32000)])
def test_the_port_resamples_as_scipy_does(
    classes: Path, tmp_path: Path, from_hz: int, to_hz: int, random: np.random.Generator
) -> None:
    song = random.normal(0, 0.2, (30_001, 2)).astype(np.float32)
    song.astype("<f4").tofile(tmp_path / "song.f32")
    command = ["java", "-cp", str(classes), "stemforge.check.ResampleRaw"]
    files = [tmp_path / "song.f32", tmp_path / "out.f32"]
    subprocess.run([*command, str(from_hz), str(to_hz), *files], check=True, timeout=120)
    found = np.fromfile(files[1], "<f4").reshape(-1, 2)
    divisor = math.gcd(from_hz, to_hz)
    expected = scipy.signal.resample_poly(song, to_hz // divisor, from_hz // divisor, axis=0)
    assert len(found) == math.ceil(len(song) * to_hz / from_hz)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_npz_and_raw_files_hold_the_same(tmp_path: Path, random: np.random.Generator) -> None:
    song = random.normal(0, 0.2, (20_000, 2)).astype(np.float32)
    write_vectors(tmp_path, song, [KerasNets(make((stem,))) for stem in ("a", "b")])
    lines = (tmp_path / "vectors.txt").read_text().splitlines()
    shapes = {
        words[1]: tuple(map(int, words[2:]))
        for words in map(str.split, lines)
        if words[0] == "array"
    }
    npz = np.load(tmp_path / "vectors.npz")
    assert set(npz.files) == set(shapes)
    for name, shape in shapes.items():
        raw = np.fromfile(tmp_path / f"{name}.f32", "<f4").reshape(shape)
        np.testing.assert_array_equal(raw, npz[name])
    np.testing.assert_allclose(npz["mask_a"] + npz["mask_b"], 1.0, atol=1e-6)
    assert "stems a b" in lines


# What the guides' snippets take for given, around each.
IN_CARD = """
import java.io.File;
import java.util.Map;
import org.tensorflow.lite.Interpreter;
class Snippet {{ void run(float[][] segment, Map<String, Object> stems) {{ {} }} }}
"""
IN_README = """
import java.nio.ByteBuffer;
import java.util.Iterator;
import org.tensorflow.lite.Interpreter;
import stemforge.*;
abstract class Snippet {{
  abstract void write(float[][] stems);
  void run(ByteBuffer input, ByteBuffer output, Interpreter[] interpreters,
      Iterator<float[]> decoder) {{ {} }}
}}
"""


@needs_java
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mvn") is None, reason="needs mvn for TensorFlow Lite's jar")
def test_the_guides_snippets_compile(classes: Path, tmp_path: Path) -> None:
    path = [str(classes)]
    for name in ("tensorflow-lite", "tensorflow-lite-api"):
        artifact = f"org.tensorflow:{name}:2.16.1:aar"
        command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}"]
        subprocess.run([*command, f"-DoutputDirectory={tmp_path}"], check=True, timeout=300)
        with zipfile.ZipFile(tmp_path / f"{name}-2.16.1.aar") as archive:
            path.append(archive.extract("classes.jar", tmp_path / name))
    card = ROOT / "pipelines" / "releases" / "templates" / "README.md.jinja"
    for guide, around in ((card, IN_CARD), (ROOT / "mobile" / "README.md", IN_README)):
        text = guide.read_text(encoding="utf-8")
        (snippet,) = re.findall(r"```java\n(.*?)```", text, re.DOTALL)
        source = tmp_path / "Snippet.java"
        source.write_text(around.format(re.sub(r"{{.*?}}", "128", snippet)), encoding="utf-8")
        command = ["javac", "--release", "11", "-d", str(tmp_path), "-cp", ":".join(path)]
        done = subprocess.run([*command, source], capture_output=True, text=True)
        assert done.returncode == 0, f"{guide}: {done.stderr}"


def listed(folder: Path) -> list[dict[str, Any]]:
    """What models.json says."""
    found: list[dict[str, Any]] = json.loads((folder / "models.json").read_text(encoding="utf-8"))
    return found


def test_the_apps_assets_are_the_models_that_were_named(tmp_path: Path) -> None:
    four, assets = tmp_path / "four", tmp_path / "assets"
    four.mkdir()
    assets.mkdir()
    write_assets(assets, [str(small_models(four))], tflite="float32")
    (model,) = listed(assets)
    assert model["name"] == "four"
    assert model["stems"] == ["bass", "drums", "other", "vocals"]
    assert (model["frames"], model["bins"]) == (64, 64)
    assert (model["frame_length_samples"], model["frame_step_samples"]) == (4096, 1024)
    for stem, name in zip(model["stems"], model["files"], strict=True):
        assert (assets / name).read_bytes() == (four / f"{stem}-float32.tflite").read_bytes()
    assert {path.name for path in assets.iterdir()} == {*model["files"], "models.json"}


def test_the_app_takes_only_what_it_can_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "four").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    four = small_models(tmp_path / "a" / "four")
    shutil.copytree(four, tmp_path / "b" / "four")
    out = tmp_path / "out"
    out.mkdir()
    twice = [str(four), str(tmp_path / "b" / "four")]
    with pytest.raises(UserError, match="four: named twice: give the folders different names"):
        write_assets(out, twice, tflite="float32")
    with pytest.raises(UserError, match=r"no \*-int8-mixed.tflite in it"):
        write_assets(out, [str(four)], tflite="int8_mixed")
    # A stem that lost too much in int8 has no such file, and is not left out.
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (small_models(mixed, int8=True) / "drums-int8-mixed.tflite").unlink()
    (tmp_path / "assets").mkdir()
    write_assets(tmp_path / "assets", [str(mixed)], tflite="int8_mixed")
    (model,) = listed(tmp_path / "assets")
    assert model["stems"] == ["bass", "drums", "other", "vocals"]
    drums = tmp_path / "assets" / model["files"][1]
    assert drums.read_bytes() == (mixed / "drums-float32.tflite").read_bytes()
    waveform = tmp_path / "separate-16.tflite"
    export.write_segment_tflite([make(STEMS)], waveform, frames=16)
    with pytest.raises(UserError, match="not nets alone: give a folder"):
        write_assets(out, [str(waveform)], tflite="float32")
    for path in four.glob("*.tflite"):
        length = b'"frame_length_samples": '
        path.write_bytes(path.read_bytes().replace(length + b"4096", length + b"3072"))
    with pytest.raises(UserError, match=r"frame_length_samples=3072.*power of two"):
        write_assets(out, [str(four)], tflite="float32")


def test_the_app_is_not_built_without_its_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="java: not found on PATH: install a JDK"):
        apk.check_tools()
    for name in set(apk.TOOLS) - {"aapt"}:
        (tmp_path / name).touch(mode=0o755)
    with pytest.raises(UserError, match="aapt: not found on PATH: install aapt"):
        apk.check_tools()


def test_a_failed_step_says_what_the_tool_said() -> None:
    with pytest.raises(UserError, match=r"^javac: a mistake$"):
        apk.run("javac", "bash", "-c", "echo; echo a mistake; echo more; exit 1")
    with pytest.raises(UserError, match=r"^javac: exit code 3$"):
        apk.run("javac", "bash", "-c", "exit 3")


def test_gradle_builds_the_same_app() -> None:
    """What Android Studio reads; it never ran here."""
    folder = ROOT / "mobile" / "android"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = apk.properties()
    assert about["appVersionName"] == project["version"]
    gradle = (folder / "build.gradle").read_text(encoding="utf-8")
    named = {name for name in about if name.startswith("app")}
    assert set(re.findall(r"property\('(\w+)'\)", gradle)) == named
    (loop,) = re.findall(r"for \(platform in \[(.*?)\]\)", gradle)
    assert tuple(re.findall(r"'(.*?)'", loop)) == apk.PLATFORMS
    libraries = tomllib.loads((folder / "gradle" / "libs.versions.toml").read_text())["libraries"]
    assert set(re.findall(r"libs\.(?!plugins)([\w-]+)", gradle)) <= set(libraries)
