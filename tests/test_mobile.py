"""The Java port against golden vectors, on a JVM."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stemforge.eval.exports.parity import KerasNets
from stemforge.eval.exports.vectors import write_vectors
from tests.conftest import RATE_HZ, ROOT
from tests.test_exports_files import make

SOURCES = ROOT / "mobile" / "java"
# Android's desugaring takes Java 8 everywhere.
COMPILE = ("javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-d")
pytestmark = pytest.mark.skipif(
    shutil.which("javac") is None, reason="no JDK on PATH: the Java port is not tried"
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classes")
    sources = sorted(SOURCES.rglob("*.java"))
    subprocess.run([*COMPILE, out, *sources], check=True)
    return out


def check(classes: Path, vectors: Path) -> "subprocess.CompletedProcess[str]":
    command = ["java", "-cp", str(classes), "stemforge.check.CheckVectors", str(vectors)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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
