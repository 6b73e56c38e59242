"""model.json: versions and kinds of nets that are read or refused."""

import json
import re
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
        ({"frames": 20}, "frames=20: must be a positive multiple of 8"),
    ],
)
def test_models_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], problem: str
) -> None:
    save_model(tmp_path, trained(NETS["4stems"], ("vocals",)))
    card = json.loads((tmp_path / "model.json").read_text())
    place = card if "version" in change else card["net"]
    place.update(change)
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=re.escape(problem)):
        load_model(tmp_path)
    for words in (["info", str(tmp_path)], ["separate", "x.wav", "--model", str(tmp_path)]):
        arguments = [*words, "--output", "out"] if words[0] == "separate" else words
        if words[0] == "separate":
            Path(tmp_path / "x.wav").touch()
            arguments[1] = str(tmp_path / "x.wav")
        assert command(arguments) == 2
        line = capsys.readouterr().err
        assert problem in line
        assert str(tmp_path / "model.json") in line
        assert line.count("\n") == 1
