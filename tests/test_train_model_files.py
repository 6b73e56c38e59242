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
from stemforge.train.model_files import read_card, read_weights
from tests.test_runtimes_tensorflow import NETS, trained


def test_version_2_is_read(tmp_path: Path) -> None:
    """As models of before were written: without a kind, and with the magnitudes as input."""
    model = trained(NETS["4stems"], ("vocals",))
    save_model(tmp_path, model)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["net"].pop("kind") == "unet"
    assert card["net"].pop("input_scale") == "linear"
    # As an editor of Windows saves it: with a byte order mark.
    text = json.dumps(card | {"version": 2})
    (tmp_path / "model.json").write_text(text, encoding="utf-8-sig")
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


def test_version_3_is_read(saved: Path, tmp_path: Path) -> None:
    """Nets had kinds, but the U-Net no input_scale."""
    card = json.loads((saved / "model.json").read_text())
    del card["net"]["input_scale"]
    (tmp_path / "model.json").write_text(json.dumps(card | {"version": 3}))
    assert read_card(tmp_path)["net"].input_scale == "linear"
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"net\.input_scale: missing$"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 5}, "model version 5 is not supported; supported: 2, 3, 4: update stemforge"),
        ({"version": 1}, "model version 1 is not supported; supported: 2, 3, 4: train or import"),
        ({"kind": "gan"}, "kind=gan: must be one of blstm, tfc_tdf, unet"),
        (
            {"kind": "tiny"},
            "kind=tiny: must be one of blstm, tfc_tdf, unet",
        ),  # it is not in the table
        ({"layers": 3}, "net.layers: unknown key"),
        ({"norm": "btach"}, "net.norm='btach': must be one of affine, batch"),
        ({"width": "8"}, "net.width='8': must be of type int"),
        ({"kind": ["unet"]}, "net.kind=['unet']: must be one of blstm, tfc_tdf, unet"),
        ({"net": []}, "net.kind: missing: must be one of blstm, tfc_tdf, unet"),
        ({"stems": None}, "stems: missing: train or import the model again"),
        ({"stems": ["lead vocals"]}, "stems: 'lead vocals': not a valid name of a stem: use up to"),
        ({"stems": ["a", "a"]}, "stems: a: two stems have this name"),
        ({"stems": "vocals"}, "stems='vocals': must be a list of names"),
        ({"sample_rate_hz": 44100.0}, "sample_rate_hz=44100.0: must be a whole number from 1 on"),
        ({"frame_step_samples": 0}, "frame_step_samples=0: must be a whole number from 1 on"),
        ({"frame_step_samples": 1000}, "frame_step_samples=1000: must divide"),
        ({"bins": 8192}, "bins=8192: must be at most 2049, the STFT's"),
        ({"provenance": "me"}, "provenance='me': must be an object"),
        ({"version": [4]}, "model version [4] is not supported"),
        ({"depth": 10**12}, "net.depth=1000000000000: must be 2 to 16"),
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": "ö"}'.encode("cp1252"), "line 1: not UTF-8 text: save the file as UTF-8"),
        (b"[" * 100_000, "not JSON that can be read: nested too deeply"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b'{"version": "\\ud800"}', "not JSON: half of a surrogate pair"),
        (b'{"version": "\\u0000"}', "not JSON: a zero character in a text"),
        (b"[3]", "model version None is not supported"),
    ],
)
def test_model_json_that_is_none(tmp_path: Path, text: bytes, problem: str) -> None:
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'model.json'}: {problem}")):
        read_card(tmp_path)


def test_weights_are_float32_of_the_length_that_their_headers_say(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    problems = {
        "no weights.npz in it": None,
        "not readable": b"no archive",
        "a.npy: not () values of float32": {"a": np.float64(1)},
        "a.npy: not (1,) values": {"a": np.array([{}])},  # objects, which are pickled
    }
    for problem, content in problems.items():
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            np.savez(path, **content)
        with pytest.raises(UserError) as raised:
            read_weights(tmp_path)
        assert problem in str(raised.value)
    np.savez(path, a=np.zeros((3, 4), np.float32))
    assert read_weights(tmp_path)["a"].shape == (3, 4)
    # Terabytes, says the header; np.load would ask for them.
    path.write_bytes(path.read_bytes().replace(b"(3, 4), }        ", b"(999999, 999999), "))
    with pytest.raises(UserError, match=r"weights.npz: not readable: "):
        read_weights(tmp_path)
