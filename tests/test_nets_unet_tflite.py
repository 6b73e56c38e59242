"""U-Nets written as TFLite files without TensorFlow: against its converter, and Spleeter."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stemforge.eval.exports import files as export
from stemforge.eval.runtimes.litert import SIGNATURE, LiteRTNets, with_interface
from stemforge.pipelines.pretrained import converting
from stemforge.train.model import Model, weights_of
from stemforge.train.nets.unet import UNet
from stemforge.train.nets.unet.tflite import to_tflite
from stemforge.train.spleeter.configuration import parse_configuration, read_json
from tests.conftest import ROOT
from tests.golden import spleeter_rules as rules
from tests.test_exports_files import make

NET = UNet(32, 16, 4, 3, "affine", 0.0, "leaky_relu", "relu", "sigmoid", "linear")


def written(model: Model, *, int8_layers: Sequence[str] = ()) -> bytes:
    assert isinstance(model.net, UNet)
    weights = weights_of(model.keras_model)
    file = to_tflite(weights, model.net, model.stems, signature=SIGNATURE, int8_layers=int8_layers)
    return with_interface(file, model.interface)


@pytest.mark.parametrize(
    ("stems", "fields"),
    [
        (("vocals",), {}),
        (("vocals",), {"encoder_activation": "elu", "decoder_activation": "elu"}),
        (("vocals",), {"encoder_activation": "relu", "decoder_activation": "leaky_relu"}),
        (("vocals",), {"norm": "batch", "depth": 2, "width": 3}),
        (("vocals", "drums", "other"), {"head": "softmax", "encoder_activation": "elu"}),
    ],
)
def test_it_computes_what_tensorflows_converters_file_does(
    stems: tuple[str, ...],
    fields: dict[str, object],
    tmp_path: Path,
    random: np.random.Generator,
) -> None:
    model = make(stems, dataclasses.replace(NET, **fields))  # type: ignore[arg-type]
    ours, theirs = tmp_path / "ours.tflite", tmp_path / "theirs.tflite"
    ours.write_bytes(written(model))
    theirs.write_bytes(export.to_tflite(model))
    for frames in (model.net.frames, 2 * model.net.frames):  # LiteRT can give it another length
        mixture = random.exponential(size=(frames, model.net.bins, 2)).astype(np.float32)
        found = LiteRTNets(ours, threads=1, frames=frames)(mixture)
        expected = LiteRTNets(theirs, threads=1, frames=frames)(mixture)
        assert [*found] == [*stems]
        for stem in stems:
            np.testing.assert_array_equal(found[stem], expected[stem])


@pytest.mark.parametrize("stems", [("vocals",), ("vocals", "drums")])
def test_layers_in_int8_compute_what_the_quantizers_do(
    stems: tuple[str, ...], tmp_path: Path, random: np.random.Generator
) -> None:
    """ai-edge-quantizer's "int8_mixed" of the same weights: bit for bit."""
    model = make(stems, dataclasses.replace(NET, width=8))
    layers = model.net.int8_layers()
    assert "encoder_2" in layers
    ours, theirs = tmp_path / "ours.tflite", tmp_path / "theirs.tflite"
    ours.write_bytes(written(model, int8_layers=layers))
    mixed = export.shrink(export.to_tflite(model), "int8_mixed", int8_layers=layers)
    theirs.write_bytes(with_interface(mixed, model.interface))
    assert abs(ours.stat().st_size / theirs.stat().st_size - 1) < 0.1
    mixture = random.exponential(size=(model.net.frames, model.net.bins, 2)).astype(np.float32)
    found, expected = (LiteRTNets(path, threads=1)(mixture) for path in (ours, theirs))
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(written(model))
    for stem in stems:
        np.testing.assert_array_equal(found[stem], expected[stem])
        assert np.abs(found[stem] - LiteRTNets(plain, threads=1)(mixture)[stem]).max() > 1e-4


def test_the_same_weights_give_the_same_bytes() -> None:
    model = make(("vocals",), NET)
    assert written(model) == written(model)


@pytest.mark.parametrize("name", ["spleeter-4stems", "spleeter-5stems"])
def test_it_estimates_what_spleeters_own_graph_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = ROOT / "tests" / "golden" / name
    small = parse_configuration(read_json(golden / "configuration.json"))
    monkeypatch.setattr(converting, "official_configurations", lambda: {name: small})
    converting.convert(golden, name, tmp_path)
    estimates = np.load(golden / "estimates.npz")
    seen = []
    for path in sorted(tmp_path.glob("*-float32.tflite")):
        found = LiteRTNets(path, threads=1)(rules.batch("mix", 0)[0])
        for stem, values in found.items():
            np.testing.assert_allclose(values, estimates[stem][0], rtol=1e-5, atol=1e-5)
            seen.append(stem)
    assert sorted(seen) == sorted(estimates.files)


def test_it_needs_no_tensorflow() -> None:
    script = (
        "import sys, stemforge.pipelines.pretrained.converting\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'pyarrow', 'google.protobuf'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_other_nets_are_refused() -> None:
    for fields in ({"norm": "instance"}, {"input_scale": "log"}):
        net = dataclasses.replace(NET, **fields)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not written here"):
            to_tflite({}, net, ("vocals",), signature=SIGNATURE)
