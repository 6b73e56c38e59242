"""What `stemforge web` writes, without a browser."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from stemforge.errors import UserError
from stemforge.eval.exports.files import shrink, to_tflite, write_segment_tflite
from stemforge.eval.runtimes.litert import LiteRTNets, with_interface
from stemforge.eval.web.halves import halve_weights
from stemforge.eval.web.page import ASSETS, write_page
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained import converting, home, litertjs
from stemforge.train.model_files import Interface
from stemforge.train.spleeter.configuration import parse_configuration, read_json
from tests.conftest import ROOT
from tests.test_exports_files import make

GOLDEN = ROOT / "tests" / "golden" / "spleeter-4stems"


def small_models(folder: Path, *, int8: bool = False) -> Path:
    """Nets of four stems that Spleeter itself wrote, small; also with layers in int8."""
    small = parse_configuration(read_json(GOLDEN / "configuration.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converting, "official_configurations", lambda: {"4stems": small})
        converting.convert(GOLDEN, "4stems", folder)
    for path in folder.glob("*-int8-mixed.tflite"):
        if not int8:
            path.unlink()
    return folder


def with_floats(data: bytes, weights: list[tuple[int, int]]) -> bytes:
    """The file again, in another way than the page's: by numbers of float16 as NumPy reads them."""
    total = sum(length for _, length in weights)
    rest, halves = data[: len(data) - total // 2], data[len(data) - total // 2 :]
    values = np.frombuffer(halves, "<f2").astype("<f4").tobytes()
    for offset, length in weights:
        rest, values = rest[:offset] + values[:length] + rest[offset:], values[length:]
    return rest


def test_halved_weights_change_estimates_by_their_rounding_alone(
    tmp_path: Path, random: np.random.Generator
) -> None:
    for path in small_models(tmp_path).glob("*.tflite"):
        data, weights = halve_weights(path.read_bytes())
        assert len(data) < 0.6 * path.stat().st_size
        half = tmp_path / f"half-{path.name}"
        half.write_bytes(with_floats(data, weights))
        assert half.stat().st_size == path.stat().st_size
        mixture = random.exponential(size=(64, 64, 2)).astype(np.float32)
        ((_, expected),) = LiteRTNets(path, threads=1)(mixture).items()
        ((_, found),) = LiteRTNets(half, threads=1)(mixture).items()
        assert 0 < np.abs(found - expected).max() < 2e-3 * mixture.max()


def test_the_pages_script_makes_the_same_floats(tmp_path: Path) -> None:
    """All numbers of float16, and a whole file, by node."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    (path, *_) = sorted(small_models(tmp_path).glob("*.tflite"))
    data, weights = halve_weights(path.read_bytes())
    (tmp_path / "data").write_bytes(data)
    script = f"""
        const fs = require("fs");
        for (const name of ["memory.js", "halves.js"]) {{
          require("vm").runInThisContext(fs.readFileSync({str(ASSETS)!r} + "/" + name, "utf8"));
        }}
        const data = new Blob([fs.readFileSync("data")]);
        withFloats(data, {json.dumps(weights)}).then((file) => fs.writeFileSync("file", file));
        fs.writeFileSync("floats", new Uint8Array(FLOATS.buffer));
    """
    subprocess.run(["node", "-e", script], check=True, cwd=tmp_path)
    assert (tmp_path / "file").read_bytes() == with_floats(data, weights)
    floats = np.fromfile(tmp_path / "floats", "<f4")
    np.testing.assert_array_equal(floats, np.arange(2**16, dtype="<u2").view("<f2").astype("<f4"))


def test_the_pages_script_rounds_to_halves(tmp_path: Path, random: np.random.Generator) -> None:
    """By node, against NumPy: magnitudes of all sizes, and those between two halves."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    halves = np.arange(0x7C00, dtype="<u2").view("<f2").astype("<f4")
    values = np.concatenate([
        halves, (halves[1:] + halves[:-1]) / 2, np.exp(random.uniform(-20, 11, 100_000)), [1e6]
    ]).astype("<f4")  # fmt: skip
    values.tofile(tmp_path / "values")
    script = f"""
        const fs = require("fs");
        require("vm").runInThisContext(fs.readFileSync({str(ASSETS / "halves.js")!r}, "utf8"));
        const values = new Float32Array(new Uint8Array(fs.readFileSync("values")).buffer);
        fs.writeFileSync("halves", new Uint8Array(halvesOf(values).buffer));
    """
    subprocess.run(["node", "-e", script], check=True, cwd=tmp_path)
    found = np.fromfile(tmp_path / "halves", "<f2").astype(np.float64)
    expected = np.minimum(values, 65504).astype("<f2").astype(np.float64)
    # As near as NumPy's; of two that are equally near, either.
    exact = np.minimum(values, 65504).astype(np.float64)
    np.testing.assert_array_equal(np.abs(found - exact), np.abs(expected - exact))


def test_weights_that_two_layers_share_are_halved_once(tmp_path: Path) -> None:
    """Two tensors of one buffer, as converters make of equal constants: of a joint model's nets."""
    file = to_tflite(make(("a", "b")))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))
    (graph,) = model.subgraphs
    first, second = (t for t in graph.tensors if t.buffer and list(t.shape) == [32, 3, 3, 16])
    second.buffer = first.buffer
    shared = packed(model)
    data, weights = halve_weights(shared)
    assert len(weights) == len(halve_weights(file)[1]) - 1
    assert len(with_floats(data, weights)) == len(shared)


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A folder in the place of LiteRT.js."""
    (tmp_path / "litert" / "core").mkdir(parents=True)
    (tmp_path / "litert" / "core" / "index.js").touch()
    return tmp_path / "litert"


def test_the_page_names_its_models(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "models").mkdir()
    models = sorted(small_models(tmp_path / "models").iterdir())
    (tmp_path / "page").mkdir()
    write_page(tmp_path / "page", models, runtime)
    text = (tmp_path / "page" / "models.js").read_text()
    values = json.loads(text.removeprefix("const MODELS = ").removesuffix(";\n"))
    assert values["interface"]["stems"] == ["bass", "drums", "other", "vocals"]
    for model in values["models"]:
        assert (tmp_path / "page" / model["file"]).is_file()
    assert (tmp_path / "page" / "litert" / "core" / "index.js").is_file()
    assert "Cross-Origin-Embedder-Policy: require-corp" in (tmp_path / "page/_headers").read_text()


def test_an_stft_that_the_page_cannot_compute_is_refused(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "models").mkdir()
    (path, *_) = small_models(tmp_path / "models").iterdir()
    odd = Interface(("vocals",), 64, 64, 3072, 768, 44100)
    (tmp_path / "odd.tflite").write_bytes(with_interface(strip(path.read_bytes()), odd))
    (tmp_path / "page").mkdir()
    with pytest.raises(UserError, match="frame_length_samples=3072: the page's FFT takes powers"):
        write_page(tmp_path / "page", [tmp_path / "odd.tflite"], runtime)


def strip(file: bytes) -> bytes:
    """A TFLite file without its interface."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))
    model.metadata = []
    return packed(model)


def test_files_that_a_page_cannot_run_are_refused(tmp_path: Path, runtime: Path) -> None:
    model = make(("vocals",))
    write_segment_tflite([model], tmp_path / "separate-16.tflite", frames=16)
    (tmp_path / "half.tflite").write_bytes(shrink(to_tflite(model), "float16"))
    for name in ("separate-16", "half"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=rf"{name}.tflite: .* give \*-float32.tflite files"):
            write_page(tmp_path / name, [tmp_path / f"{name}.tflite"], runtime)


def test_what_is_missing_for_a_page(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert cli.main(["web", *arguments, "--model", "models"]) == 2
        assert not (in_tmp / "page").exists()
        return capsys.readouterr().err

    monkeypatch.setenv(home.VARIABLE, str(in_tmp / "home"))
    assert "models: no such file or folder" in refused("page")
    (in_tmp / "models").mkdir()
    small_models(in_tmp / "models")
    assert "@litertjs/core@2.5.3: not on this machine, and --offline" in refused(
        "page", "--offline"
    )
    monkeypatch.setenv("PATH", "")
    said = refused("page")
    assert "npm is not installed: install Node.js, or put litertjs-wasm-utils-2.5.3.tgz" in said
    folder = in_tmp / "home" / "downloads" / "litertjs-2.5.3"
    (folder / litertjs.UTILS.archive).write_bytes(b"another")
    assert "its checksum is another one: nothing was kept: try again" in refused("page")
    assert "no name of a folder that can be made" in refused(".")


def test_scripts_are_valid_for_node() -> None:
    """A syntax error in the worker would else be seen by tests in a browser alone."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    for script in ASSETS.glob("*.js"):
        subprocess.run(["node", "--check", script], check=True)


def test_two_joint_models_do_not_overwrite_each_other(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "page").mkdir()
    paths = []
    for number, stems in enumerate([("a", "b"), ("c", "d")]):
        paths.append(tmp_path / f"{number}.tflite")
        paths[-1].write_bytes(to_tflite(make(stems)))
    write_page(tmp_path / "page", paths, runtime)
    assert len([*(tmp_path / "page" / "models").iterdir()]) == 2
