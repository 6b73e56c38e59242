import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from stemforge.errors import UserError
from stemforge.eval.exports import files as export
from stemforge.eval.exports import parity
from stemforge.eval.exports.bounds import Bounds, segment_name
from stemforge.eval.exports.parity import Clip, KerasNets
from stemforge.eval.runtimes.litert import SIGNATURE, LiteRTNets, read_interface
from stemforge.eval.separation.separator import Separator, common_interface
from stemforge.pipelines.params import read_params
from stemforge.train.config import TFLITE_FORMATS, TFLiteFormat
from stemforge.train.model import Model
from stemforge.train.model_files import tflite_name
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ, ROOT

NET = UNet(16, 64, 4, 3, "batch", 0.0, "elu", "elu", "sigmoid", "linear")
STEMS = ("vocals", "rest")
BOUNDS = Bounds(max_difference_tflite_int8_mixed=1e-2)
TOLERANCES = {"float32": 1e-5, "float16": 3e-3, "int8_weights": 0.1, "int8_mixed": 0.1}


def make(stems: tuple[str, ...], net: UNet = NET, *, seed: int = 4) -> Model:
    """Nets with random weights everywhere, so that masks are not all alike."""
    model = net.build(stems, seed=seed)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if "norm" not in weight.path:
            weight.assign(random.normal(0, 0.2, weight.shape))
    return Model(stems, net, 4096, 1024, RATE_HZ, {}, model)


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [make((stem,), seed=number) for number, stem in enumerate(STEMS)]


@pytest.fixture(scope="module")
def saved_model(models: list[Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "saved_model"
    export.write_saved_model(models, path)
    return path


@pytest.fixture(scope="module")
def converted(models: list[Model]) -> bytes:
    """The first model's, which all its TFLite files are made of."""
    return export.to_tflite(models[0])


def noise(random: np.random.Generator, samples: int) -> np.ndarray:
    return random.normal(0, 0.2, (samples, 2)).astype(np.float32)


def separator(models: list[Model]) -> Separator:
    return Separator([KerasNets(model) for model in models])


def test_saved_model_estimates_as_keras_does(
    models: list[Model], saved_model: Path, random: np.random.Generator
) -> None:
    mixture = random.exponential(20.0, (3, 16, 64, 2)).astype(np.float32)
    found = export.runner(saved_model, SIGNATURE)(mixture=mixture)
    assert set(found) == set(STEMS)
    for model in models:
        (stem,) = model.stems
        truth = np.asarray(model.keras_model(mixture)[stem])
        assert parity.compare(found[stem], truth).relative_difference < 1e-5


BARE = """
import sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
songs = np.load(sys.argv[2])
found = {f"{name}/{stem}": values.numpy() for name in songs.files
         for stem, values in loaded.signatures["separate"](waveform=songs[name]).items()}
assert not {"eval", "features", "train", "pipelines"} & set(sys.modules)
np.savez(sys.argv[3], **found)
"""


@pytest.mark.system
def test_saved_model_separates_songs_of_any_length_in_a_bare_tensorflow(
    models: list[Model], saved_model: Path, tmp_path: Path, random: np.random.Generator
) -> None:
    part = 16 * 1024
    lengths = (1, 1023, part - 4096, part - 4095, 50_000)
    songs: dict[str, Any] = {str(n): noise(random, n) for n in lengths}
    np.savez(tmp_path / "songs.npz", **songs)
    command = [sys.executable, "-c", BARE, saved_model, tmp_path / "songs.npz", tmp_path / "out"]
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    for name, song in songs.items():
        expected = separator(models).separate(song, sample_rate_hz=RATE_HZ)
        for stem in STEMS:
            np.testing.assert_allclose(found[f"{name}/{stem}"], expected[stem], atol=1e-5)


@pytest.mark.parametrize("kind", TFLITE_FORMATS)
def test_tflite_estimates_as_keras_does(
    models: list[Model],
    converted: bytes,
    tmp_path: Path,
    random: np.random.Generator,
    kind: TFLiteFormat,
) -> None:
    path = tmp_path / tflite_name("vocals", kind)
    path.write_bytes(export.shrink(converted, kind, int8_layers=NET.int8_layers()))
    mixture = random.exponential(20.0, (16, 64, 2)).astype(np.float32)
    nets = LiteRTNets(path, threads=1)
    truth = np.asarray(models[0].keras_model(mixture[None])["vocals"])[0]
    measured = parity.compare(nets(mixture)["vocals"], truth)
    assert measured.finite
    assert measured.relative_difference < TOLERANCES[kind]
    assert measured.relative_difference > 0  # not compared with itself
    assert nets.interface == models[0].interface


def test_small_files_are_small() -> None:
    model = make(("vocals",), dataclasses.replace(NET, width=16, depth=4))
    converted = export.to_tflite(model)
    layers = model.net.int8_layers()
    sizes = {
        kind: len(export.shrink(converted, kind, int8_layers=layers)) for kind in TFLITE_FORMATS
    }
    weights = 4 * model.keras_model.count_params()
    assert sizes["float32"] - sizes["float16"] == pytest.approx(weights / 2, rel=0.1)
    assert sizes["float32"] - sizes["int8_weights"] == pytest.approx(weights * 3 / 4, rel=0.1)


def operators(path: Path) -> set[str]:
    """Names of a TFLite file's operators, custom ones included."""
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(n) for n in range(model.OperatorCodesLength())]
    return {names[code.BuiltinCode()] for code in codes}


def test_int8_mixed_computes_the_inner_layers_in_int8(converted: bytes) -> None:
    assert dataclasses.replace(NET, frames=64, depth=6).int8_layers() == [
        *("encoder_2", "encoder_3", "encoder_4", "encoder_5"),
        *("decoder_0", "decoder_1", "decoder_2"),
    ]
    file = export.shrink(converted, "int8_mixed", int8_layers=NET.int8_layers())
    graph = schema.Model.GetRootAs(file, 0).Subgraphs(0)
    types = {}
    for n in range(graph.OperatorsLength()):
        operator = graph.Operators(n)
        name = graph.Tensors(operator.Outputs(0)).Name().decode()
        if "Conv2D" in name:
            kernel = graph.Tensors(operator.Inputs(1))
            types[name.split("/")[0].split(";")[-1]] = kernel.Type()
    assert {n for n, kind in types.items() if kind == schema.TensorType.INT8} == {"encoder_2"}


@pytest.mark.parametrize("frames", [16, 32])
def test_segments_add_up_to_what_separator_makes(
    models: list[Model], tmp_path: Path, random: np.random.Generator, frames: int
) -> None:
    path = tmp_path / segment_name(frames)
    export.write_segment_tflite(models, path, frames=frames)
    assert "CUSTOM" not in operators(path)
    assert "RFFT2D" in operators(path)
    interface = read_interface(path)
    assert (interface.frames, interface.stems) == (frames, STEMS)
    run = export.runner(path, export.SEPARATE)
    song = noise(random, 70_001)
    song[20_000:50_000] = 0.0  # silence, where float16 constants gave 0 / 0
    found = parity.add_segments(lambda part: run(waveform=part), song, interface)
    if frames == NET.frames:
        expected = separator(models).separate(song, sample_rate_hz=RATE_HZ)
        for stem in STEMS:
            np.testing.assert_allclose(found[stem], expected[stem], atol=2e-3)
            assert parity.compare(found[stem], expected[stem]).relative_difference < 3e-3
    np.testing.assert_allclose(sum(found.values()), spectrum_below(song, 64), atol=2e-3)


def spectrum_below(song: np.ndarray, bins: int) -> np.ndarray:
    """What masks that add up to 1 leave of a song: its lowest bins."""
    import tensorflow as tf

    padded = np.pad(song, [(4096, 8192), (0, 0)]).T
    spectrum = tf.signal.stft(padded, 4096, 1024).numpy()
    spectrum[..., bins:] = 0.0
    window = tf.signal.hann_window(4096) * (2.0 / 3.0)
    wave = tf.signal.inverse_stft(spectrum, 4096, 1024, window_fn=lambda n, dtype: window)
    return wave.numpy().T[4096 : 4096 + len(song)]


def test_segments_that_the_nets_cannot_take(models: list[Model], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"frames=12: must be a positive multiple of 8"):
        export.write_segment_tflite(models, tmp_path / "x", frames=12)
    flat = dataclasses.replace(models[0], net=dataclasses.replace(NET, frames=4, depth=2))
    with pytest.raises(UserError, match=r"frames=4: too short for segments to overlap"):
        export.resized(dataclasses.replace(flat, frame_length_samples=8192), 4)
    assert not (tmp_path / "x").exists()


def test_a_softmax_model_is_one_file_for_all_stems(
    tmp_path: Path, random: np.random.Generator
) -> None:
    stems = ("b", "a", "c")
    joint = make(stems, dataclasses.replace(NET, head="softmax"))
    mixture = random.exponential(20.0, (16, 64, 2)).astype(np.float32)
    truth = joint.keras_model(mixture[None])
    converted = export.to_tflite(joint)
    for kind in TFLITE_FORMATS:
        path = tmp_path / tflite_name(joint.name, kind)
        path.write_bytes(export.shrink(converted, kind, int8_layers=NET.int8_layers()))
        found = LiteRTNets(path, threads=1)(mixture)
        assert set(found) == set(stems)
        np.testing.assert_allclose(sum(found.values()), mixture, rtol=1e-3)
        for stem in stems:
            measured = parity.compare(found[stem], np.asarray(truth[stem])[0])
            assert measured.relative_difference < TOLERANCES[kind]
    export.write_saved_model([joint], tmp_path / "saved_model")
    song = noise(random, 30_000)
    found = export.runner(tmp_path / "saved_model", export.SEPARATE)(waveform=song)
    expected = separator([joint]).separate(song, sample_rate_hz=RATE_HZ)
    for stem in stems:
        np.testing.assert_allclose(found[stem], expected[stem], atol=1e-5)


def test_one_model_alone_uses_its_own_mask(
    models: list[Model], tmp_path: Path, random: np.random.Generator
) -> None:
    export.write_saved_model(models[:1], tmp_path / "saved_model")
    song = noise(random, 30_000)
    found = export.runner(tmp_path / "saved_model", export.SEPARATE)(waveform=song)
    expected = separator(models[:1]).separate(song, sample_rate_hz=RATE_HZ)
    np.testing.assert_allclose(found["vocals"], expected["vocals"], atol=1e-5)


def test_models_that_do_not_go_together(models: list[Model], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stem 'vocals': two models have it"):
        export.write_saved_model([models[0], models[0]], tmp_path / "x")
    other = make(("drums",), dataclasses.replace(NET, bins=32))
    with pytest.raises(UserError, match="models differ: bins is 64 for vocals, 32 for drums"):
        export.write_saved_model([models[0], other], tmp_path / "x")


def test_parity_by_hand() -> None:
    measured = parity.compare(np.array([3.0, 5.0], np.float32), np.array([3.0, 4.0], np.float32))
    assert measured.max_difference == 1.0
    assert measured.rms_difference == pytest.approx(np.sqrt(0.5))
    assert measured.relative_difference == pytest.approx(np.sqrt(0.5) / np.sqrt(12.5))
    assert json.dumps(vars(measured))
    true = np.array([[10.0, 0.0]], np.float32)
    ours, theirs = (np.array([[10.0, error]], np.float32) for error in (1.0, 0.1))
    # 20 dB instead of 40; a clip whose truth is silent or unknown does not count.
    changes = parity.sdr_change([ours, ours, ours], [theirs] * 3, [true, np.zeros_like(true), None])
    assert changes == pytest.approx(-20.0, abs=1e-4)


def test_sound_is_measured_against_the_truth(
    models: list[Model], random: np.random.Generator
) -> None:
    keras = [KerasNets(model) for model in models]
    song = noise(random, 40_000)
    clip = Clip(song, {"vocals": (0.5 * song).astype(np.float32)})
    found = parity.measure_nets(keras, keras, [clip])
    assert {stem: value.sdr_change_db for stem, value in found.items()} == {
        "vocals": 0.0,
        "rest": None,
    }
    interface = common_interface([nets.interface for nets in keras])
    assert interface.stems == STEMS


def test_what_misses_its_bound_is_refused() -> None:
    truth = np.ones(4, np.float32)
    close = parity.compare(truth * 1.00001, truth)
    BOUNDS.check("vocals", "tflite_float32", close)
    with pytest.raises(UserError, match=r"from the trained nets is 1.00e-02, .*=1.0e-04"):
        BOUNDS.check("vocals", "tflite_float32", parity.compare(truth * 1.01, truth))
    broken = parity.compare(np.array([1.0, np.nan], np.float32), np.ones(2, np.float32))
    with pytest.raises(UserError, match="not finite"):
        BOUNDS.check("vocals", "tflite_float32", broken)
    worse = parity.compare(truth, truth, sdr_change_db=-0.2)
    BOUNDS.check("vocals", "tflite_int8_mixed", worse)
    with pytest.raises(UserError, match=r"loss of SDR is 0.200 dB, more than max_sdr_loss_db=0.1"):
        BOUNDS.check("vocals", "tflite_float32", worse)


def test_the_commands_bounds_are_those_of_the_committed_params() -> None:
    params = read_params(ROOT / "params.yaml").export
    assert Bounds() == Bounds(**params.model_dump(exclude={"frames"}))
