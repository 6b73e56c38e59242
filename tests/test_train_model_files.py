"""model.json: versions and kinds of nets that are read or refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from stemforge.errors import UserError
from stemforge.eval.runtimes.tensorflow import load_nets
from stemforge.pipelines.commands.main import main as command
from stemforge.train.model import load_model, save_model, weights_of
from tests.test_runtimes_tensorflow import NETS, trained


def test_version_2_is_read(tmp_path: Path) -> None:
    """As models of before were written: without a kind."""
    model = trained(NETS["4stems"], ("vocals",))
    save_model(tmp_path, model)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["net"].pop("kind") == "unet"
    (tmp_path / "model.json").write_text(json.dumps(card | {"version": 2}))
    found = load_model(tmp_path)
    assert found.net == model.net
    for name, values in weights_of(model.keras_model).items():
        np.testing.assert_array_equal(weights_of(found.keras_model)[name], values)
    load_nets(tmp_path)
    assert command(["info", str(tmp_path)]) == 0


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory. Read only."""
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder, trained(NETS["4stems"], ("vocals",)))
    return folder


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 4}, "model version 4 is not supported; supported: 2, 3: update stemforge"),
        ({"version": 1}, "model version 1 is not supported; supported: 2, 3: train or import"),
        ({"kind": "gan"}, "kind=gan: must be one of unet"),
        ({"kind": "tiny"}, "kind=tiny: must be one of unet"),  # it is not in the table
        ({"layers": 3}, "net.layers: unknown key"),
        ({"norm": "btach"}, "net.norm='btach': must be one of affine, batch"),
        ({"width": "8"}, "net.width='8': must be of type int"),
        ({"kind": ["unet"]}, "net.kind=['unet']: must be one of unet"),
        ({"net": []}, "net.kind: missing: must be one of unet"),
        ({"stems": None}, "stems: missing: train or import the model again"),
        ({"frames": 20}, "frames=20: must be a positive multiple of 8"),
    ],
)
def test_models_that_cannot_be_read(
    saved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    problem: str,
) -> None:
    model = Path(shutil.copytree(saved, tmp_path / "model"))
    card = json.loads((model / "model.json").read_text())
    of_the_net = change.keys() <= {*card["net"], "layers"}
    (card["net"] if of_the_net else card).update(change)
    card = {name: value for name, value in card.items() if value is not None}
    (model / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=re.escape(problem)):
        load_model(model)
    song = tmp_path / "x.wav"
    song.touch()
    for words in (["info", model], ["separate", song, "--model", model, "--output", "out"]):
        assert command([str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert problem in line
        assert str(model / "model.json") in line
        assert line.count("\n") == 1
