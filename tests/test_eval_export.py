import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from eval import export
from features.errors import UserError
from pipelines.export import check_parity
from pipelines.params import Export
from tests.conftest import RATE_HZ
from train import unet
from train.config import Net
from train.unet import Model

NET = Net(16, 64, 4, 3, "batch", 0.0, "elu", "elu", "sigmoid")
BOUNDS = Export(
    max_difference_saved_model=1e-5,
    max_difference_tflite_float32=1e-4,
    max_difference_tflite_float16=1e-2,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(("vocals",), NET, 4096, 1024, RATE_HZ, {}, unet.build(NET, ["vocals"], seed=4))


@pytest.mark.parametrize("kind", export.FORMATS)
def test_exports_compute_what_keras_does(
    model: Model, tmp_path: Path, random: np.random.Generator, kind: export.Format
) -> None:
    path = tmp_path / export.export_name("vocals", kind)
    export.write_export(model, path, kind)
    mixture = random.exponential(20.0, (1, 16, 64, 2)).astype(np.float32)
    found = export.run_export(path, kind, mixture)
    assert list(found) == ["vocals"]
    truth = np.asarray(model.keras_model(mixture)["vocals"])
    parity = export.compare(found["vocals"], truth)
    check_parity("vocals", kind, parity, BOUNDS)
    assert parity.relative_difference > 0 or kind == "saved_model"  # not compared with itself
    if kind == "saved_model":
        many = random.exponential(20.0, (3, 16, 64, 2)).astype(np.float32)
        assert export.run_export(path, kind, many)["vocals"].shape == many.shape


@pytest.mark.parametrize("kind", export.FORMATS)
def test_a_softmax_model_is_one_export(
    tmp_path: Path, random: np.random.Generator, kind: export.Format
) -> None:
    net = dataclasses.replace(NET, head="softmax")
    stems = ("b", "a", "c")
    joint = Model(stems, net, 4096, 1024, RATE_HZ, {}, unet.build(net, stems, seed=4))
    for weight in joint.keras_model.trainable_weights:
        weight.assign(random.normal(0, 0.3, weight.shape))
    path = tmp_path / export.export_name(joint.name, kind)
    export.write_export(joint, path, kind)
    mixture = random.exponential(20.0, (1, 16, 64, 2)).astype(np.float32)
    found = export.run_export(path, kind, mixture)
    assert set(found) == set(stems)
    np.testing.assert_allclose(sum(found.values()), mixture, rtol=1e-4)
    truth = joint.keras_model(mixture)
    for stem in stems:
        check_parity(stem, kind, export.compare(found[stem], np.asarray(truth[stem])), BOUNDS)


def test_float16_is_half_the_size(tmp_path: Path) -> None:
    net = dataclasses.replace(NET, width=16)
    model = Model(("vocals",), net, 4096, 1024, RATE_HZ, {}, unet.build(net, ["vocals"]))
    sizes = {}
    for kind in ("tflite_float32", "tflite_float16"):
        export.write_export(model, tmp_path / kind, kind)  # type: ignore[arg-type]
        sizes[kind] = (tmp_path / kind).stat().st_size
    weights = 4 * model.keras_model.count_params()
    assert sizes["tflite_float32"] - sizes["tflite_float16"] == pytest.approx(weights / 2, rel=0.2)


def test_parity_by_hand() -> None:
    parity = export.compare(np.array([3.0, 5.0], np.float32), np.array([3.0, 4.0], np.float32))
    assert parity.max_difference == 1.0
    assert parity.rms_difference == pytest.approx(np.sqrt(0.5))
    assert parity.relative_difference == pytest.approx(np.sqrt(0.5) / np.sqrt(12.5))
    assert json.dumps(vars(parity))


def test_what_misses_its_bound_is_refused() -> None:
    truth = np.ones(4, np.float32)
    close = export.compare(truth * 1.00001, truth)
    check_parity("vocals", "tflite_float32", close, BOUNDS)
    with pytest.raises(UserError, match=r"differs from Keras by 1.00e-02 .*=1.0e-04"):
        check_parity("vocals", "tflite_float32", export.compare(truth * 1.01, truth), BOUNDS)
    broken = export.compare(np.array([1.0, np.nan], np.float32), np.ones(2, np.float32))
    with pytest.raises(UserError, match="not finite"):
        check_parity("vocals", "tflite_float16", broken, BOUNDS)
