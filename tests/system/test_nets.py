"""The seam: a net of the tests' own goes through everything with nothing but its own file."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.eval.runtimes.tensorflow import load_nets
from stemforge.pipelines.commands.main import main as command
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.stages import evaluate, export, leaderboard, report, separate
from stemforge.pipelines.stages import train as train_stage
from stemforge.train.model import load_model
from stemforge.train.model_files import read_card
from tests.factories import STEMS, set_params
from tests.test_exports_files import operators
from tests.test_nets_kinds import TINY
from tests.tiny_net import TinyNet, in_the_table

pytestmark = pytest.mark.system
FIELDS = {"kind": "tiny", "frames": 16, "channels": 32, "activation": "elu", "penalty": 0.01}


@pytest.fixture
def project(finished: Path) -> Iterator[Path]:
    with in_the_table():
        yield finished


@pytest.fixture(scope="module")
def finished(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which a net of another kind was trained, exported and released."""
    with in_the_table():
        return released(tiny_project, tmp_path_factory.mktemp("tiny-net") / "project", FIELDS)


def released(tiny_project: Path, root: Path, fields: dict[str, Any]) -> Path:
    """A checkout in which nets with these fields were trained, exported and released."""
    root.mkdir()
    (root / "params.yaml").write_text((tiny_project / "params.yaml").read_text())
    (root / "data").symlink_to(tiny_project / "data")
    (root / "comparisons").mkdir()
    set_params(root, train__net=dict(fields), export__frames=[16], leaderboard__resamples=9)
    (root / "dvc.lock").write_text("stages: {}\n")
    (root / ".gitignore").write_text("/*\n!/params.yaml\n!/.dvc\n")
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    for git in (("init", "-q"), ("add", "-A"), (*someone, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *git], cwd=root, check=True)
    quiet = os.environ | {"DVC_NO_ANALYTICS": "1"}
    subprocess.run(["dvc", "init", "-q"], cwd=root, env=quiet, check=True)
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        if not Path("data/corpus.json").exists():
            Path("data/corpus.json").write_text('{"root": "corpus", "remark": ""}')
        for stem in STEMS:
            patch.setattr(sys, "argv", ["train", "--stem", stem])
            assert run_main(train_stage.main) == 0
        for stage in (separate, evaluate, leaderboard, report, export):
            assert run_main(stage.main) == 0, stage.__name__
        assert command(["release", "--allow-dirty", "--output", "release"]) == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in TINY if kind != "unet"])
def test_each_kind_goes_the_whole_way(kind: str, tiny_project: Path, tmp_path: Path) -> None:
    fields = {"kind": kind, "frames": 16, **TINY[kind]}
    if "mask" in fields:
        # With relu, nets that have hardly learnt estimate nothing: ratio masks would divide noise.
        fields["mask"] = "sigmoid"
    root = released(tiny_project, tmp_path / "project", fields)
    with contextlib.chdir(root):
        assert command(["verify", "release"]) == 0
    song = next((root / "data" / "decoded" / "test").iterdir()) / "mixture.wav"
    found = []
    for place in ("models", "exports"):
        flags = ("--model", str(root / place), "--output", str(tmp_path / place))
        assert command(["separate", str(song), "--subtype", "FLOAT", *flags]) == 0
        found.append(soundfile.read(tmp_path / place / "mixture" / "vocals.wav")[0])
    assert np.abs(found[0]).max() > 0.001
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    files = sorted((root / "exports").rglob("*.tflite"))
    assert len(files) > 4
    assert not any("CUSTOM" in operators(file) for file in files)


def test_training_writes_its_kind_and_fields(project: Path) -> None:
    card = json.loads((project / "models" / "vocals" / "model.json").read_text())
    assert card["version"] == 4
    assert card["net"] == FIELDS | {"bins": 64}
    net = read_card(project / "models" / "vocals")["net"]
    assert net == TinyNet(16, 64, 32, "elu", 0.01)
    rows = (project / "models" / "vocals" / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + read_params(project / "params.yaml").train.steps // 2


def test_both_runtimes_are_keras(project: Path, random: np.random.Generator) -> None:
    mixture = random.exponential(5.0, (16, 64, 2)).astype(np.float32)
    model = load_model(project / "models" / "drums")
    truth = np.asarray(model.keras_model(mixture[None])["drums"])[0]
    lite = LiteRTNets(project / "exports" / "drums" / "drums-float32.tflite", threads=1)
    for nets in (load_nets(project / "models" / "drums"), lite):
        np.testing.assert_allclose(nets(mixture)["drums"], truth, rtol=1e-4, atol=1e-4)
    near = load_nets(project / "models" / "drums", precision="bfloat16")(mixture)["drums"]
    assert 1e-5 < np.linalg.norm(near - truth) / np.linalg.norm(truth) < 0.02
    wide = load_nets(project / "models" / "drums", max_frequency_hz=1000.0, frames=7)
    assert wide(np.ones((7, 93, 2), np.float32))["drums"].shape == (7, 93, 2)


def test_separate_takes_models_and_exports(project: Path, tmp_path: Path) -> None:
    song = next((project / "data" / "decoded" / "test").iterdir()) / "mixture.wav"
    for place in ("models", "exports"):
        flags = ("--model", str(project / place), "--output", str(tmp_path / place))
        assert command(["separate", str(song), "--subtype", "FLOAT", *flags]) == 0
    for stem in STEMS:
        ours, theirs = (
            soundfile.read(tmp_path / place / "mixture" / f"{stem}.wav")[0]
            for place in ("models", "exports")
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(ours).max() > 0.01


def test_exports_leave_out_what_the_net_does_not_offer(project: Path) -> None:
    files = {path.name for path in (project / "exports" / "vocals").iterdir()}
    assert files == {f"vocals-{kind}.tflite" for kind in ("float32", "float16", "int8-weights")}
    # Every layer's weights are smaller, whatever its operator is.
    sizes = {
        kind: (project / "exports" / "vocals" / f"vocals-{kind}.tflite").stat().st_size
        for kind in ("float32", "float16", "int8-weights")
    }
    weights = 4 * load_model(project / "models" / "vocals").keras_model.count_params()
    assert sizes["float32"] - sizes["float16"] == pytest.approx(weights / 2, rel=0.2)
    assert sizes["float32"] - sizes["int8-weights"] == pytest.approx(weights * 3 / 4, rel=0.2)
    parity = json.loads((project / "exports" / "parity.json").read_text())
    assert parity["separate-16.tflite"]["vocals"]["finite"]


def test_the_release_verifies_and_its_card_describes_the_net(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(project):
        assert command(["verify", "release"]) == 0
    assert (
        "release: complete, and its models, exports and scores check out" in capsys.readouterr().out
    )
    card = (project / "release" / "README.md").read_text()
    assert "four layers, 32 channels, elu: one net for each stem." in card
    assert command(["info", str(project / "models" / "vocals")]) == 0
    assert "  net         four layers, 32 channels, elu\n" in capsys.readouterr().out


def test_starting_weights_must_be_of_the_same_net(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "other"
    root.mkdir()
    (root / "params.yaml").write_text((project / "params.yaml").read_text())
    (root / "data").symlink_to(project / "data")
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["train", "--stem", "vocals"])
    set_params(root, train__init_from=str(project / "models"), train__net__channels=5)
    assert run_main(train_stage.main) == 2
    assert "its model vocals has channels=32, but train.net.channels=5" in capsys.readouterr().err
    # The penalty and the window are training's own.
    set_params(root, train__net__channels=32, train__net__penalty=0.0, train__net__frames=8)
    assert run_main(train_stage.main) == 0
