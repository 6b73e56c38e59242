"""The train stage as people run it: processes of their own, signals, what they get wrong."""

import csv
import importlib.metadata
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stemforge.eval.separation.separator import Separator
from stemforge.features.corpus.manifest import read_manifest
from stemforge.pipelines.console import run_main
from stemforge.pipelines.releases.provenance import other_origins
from stemforge.pipelines.running import training_results
from stemforge.pipelines.stages import separate
from stemforge.pipelines.stages import train as train_stage
from stemforge.train.model_files import read_card
from tests.factories import STEMS, set_params, untrained
from tests.processes import CLI, LIMIT_S, environment

SHORT = {
    "train__steps": 12,
    "train__log_every_steps": 2,
    "train__validate_every_steps": 4,
    "monitor__checkpoint_every_steps": 4,
}


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """With features of two stems, and a short run in params.yaml."""
    root = untrained(tiny_project, tmp_path / "project")
    set_params(root, **SHORT)
    return root


def weights(project: Path, name: str = "vocals") -> dict[str, np.ndarray]:
    with np.load(project / "models" / name / "weights.npz") as values:
        return dict(values)


def history(project: Path, name: str = "vocals") -> list[dict[str, str]]:
    with (project / "models" / name / "history.csv").open() as file:
        return list(csv.DictReader(file))


class Stage:
    """Runs the stage in this process, which has TensorFlow already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, project: Path, stem: str = "vocals", *, code: int = 0) -> str:
        """Returns what it printed."""
        self._monkeypatch.chdir(project)
        self._monkeypatch.setattr(sys, "argv", ["train", "--stem", stem])
        found = run_main(train_stage.main)
        printed = self._capsys.readouterr().err
        assert found == code, printed
        return printed

    def error(self, project: Path) -> str:
        """The one line of a run that must fail."""
        printed = self(project, code=2)
        (line,) = (x for x in printed.splitlines() if "stemforge: error: " in x)
        assert not (project / "models").exists()
        return line


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stage:
    return Stage(monkeypatch, capsys)


def test_what_is_written_while_it_runs(project: Path, train: Stage) -> None:
    written = {"histograms": True, "audio": True, "export_every_steps": 6}
    set_params(project, **{f"monitor__{name}": value for name, value in written.items()})
    set_params(project, train__loss={"l1": 1.0, "mask": 0.1})
    done = train(project)
    assert "waited for input" in done
    assert "audio-s/s, waiting" in done
    events = EventAccumulator(
        str(project / "runs" / "vocals"), size_guidance={"tensors": 0}
    ).Reload()
    tags = set(events.Tags()["tensors"])
    assert {
        "loss/train", "loss/validation", "loss/l1", "loss/mask", "learning_rate",
        "norm/gradients", "norm/weights", "weight/encoder_0/kernel",
        "gradient/encoder_0/kernel", "vocals/window 1", "vocals/window 0 estimate",
        "vocals/window 0 residual", "vocals/window 0 estimate waveform",
    } <= tags  # fmt: skip
    logged = {event.step: float(tf.make_ndarray(event.tensor_proto))
              for event in events.Tensors("loss/train")}  # fmt: skip
    for row in history(project):
        assert logged[int(row["step"])] == pytest.approx(float(row["loss"]), rel=1e-6)
    # The picture and the sound open as what they are.
    picture = tf.make_ndarray(events.Tensors("vocals/window 0")[0].tensor_proto)
    assert tf.image.decode_png(picture[2]).shape == (4 * 64 + 3 * 2, 16, 3)
    sound = tf.make_ndarray(events.Tensors("vocals/window 0 estimate")[0].tensor_proto)
    samples, rate_hz = tf.audio.decode_wav(sound[0, 0])
    assert (samples.shape, int(rate_hz)) == ((15 * 1024 + 4096, 2), 44100)
    assert float(tf.math.reduce_std(samples)) > 0

    live = json.loads((project / "runs" / "vocals" / "dvclive" / "metrics.json").read_text())
    assert live["step"] == 12
    assert live["loss"] == pytest.approx(float(history(project)[-1]["loss"]), rel=1e-6)
    assert live["loss_l1"] + 0.1 * live["loss_mask"] == pytest.approx(live["loss"], rel=1e-6)
    for step in (6, 12):
        loaded = tf.saved_model.load(str(project / "runs" / "vocals" / f"saved_model-{step:09d}"))
        found = loaded.signatures["estimate"](mixture=tf.ones((1, 16, 64, 2)))["vocals"]
        assert found.shape == (1, 16, 64, 2)


def test_the_best_model_has_the_highest_sdr(
    project: Path, train: Stage, tiny_project: Path
) -> None:
    set_params(project, train__sdr_songs=3, train__select_by="valid_sdr", monitor__images=False)
    assert "train.sdr_songs=3: needs the decoded songs, but there" in train.error(project)
    for name in ("decoded", "tracks.parquet"):
        (project / "data" / name).symlink_to(tiny_project / "data" / name)
    set_params(project, train__accumulate_steps=2, train__learning_rates={"decoder_*": 3.0})
    printed = train(project)
    rows = {int(row["step"]): float(row["valid_sdr"]) for row in history(project)}
    measured = {step: sdr for step, sdr in rows.items() if not np.isnan(sdr)}
    assert sorted(measured) == [4, 8, 12]
    best = max(measured, key=measured.__getitem__)
    # What the published model scores on the split's only song, by the formula.
    (track,) = read_manifest(project / "data" / "tracks.parquet").split("valid")
    mixture, true = (
        soundfile.read(project / "data" / "decoded" / "valid" / track.name / f"{name}.wav")[0]
        for name in ("mixture", "vocals")
    )
    separator = Separator.load([project / "models" / "vocals"])
    found = separator.separate(mixture.astype(np.float32), sample_rate_hz=44100)["vocals"]
    sdr = 10 * np.log10((np.sum(true**2) + 1e-7) / (np.sum((true - found) ** 2) + 1e-7))
    assert measured[best] == pytest.approx(sdr, abs=1e-3)
    metrics = json.loads((project / "models" / "vocals" / "metrics.json").read_text())
    provenance = read_card(project / "models" / "vocals")["provenance"]
    assert (metrics["best_step"], provenance["step"]) == (best, best)
    for value in (metrics["best_valid_sdr"], provenance["valid_sdr"]):
        assert value == pytest.approx(measured[best], rel=1e-6)
    assert f", SDR {measured[best]:.2f} dB at step {best} of 12; waited" in printed
    events = EventAccumulator(str(project / "runs" / "vocals")).Reload()
    logged = {event.step: float(tf.make_ndarray(event.tensor_proto))
              for event in events.Tensors("sdr/validation")}  # fmt: skip
    assert logged == pytest.approx(measured, rel=1e-6)
    live = json.loads((project / "runs" / "vocals" / "dvclive" / "metrics.json").read_text())
    assert live["valid_sdr"] == pytest.approx(measured[12], rel=1e-6)


def test_sound_needs_no_shards_and_no_stored_phases(
    tiny_project: Path, tmp_path: Path, train: Stage
) -> None:
    root = tmp_path / "project"
    index = shutil.ignore_patterns("*.tfrecord")
    shutil.copytree(tiny_project / "data" / "features", root / "data" / "features", ignore=index)
    shutil.copy(tiny_project / "params.yaml", root)
    shutil.copy(tiny_project / "data" / "tracks.parquet", root / "data")
    changes = {"gain_db": [-6, 6], "swap_channels": 0.5, "flip_polarity": 0.5, "remix": 0.5}
    set_params(root, **SHORT, train__input="waveforms", train__augmentation=changes)
    set_params(root, features__mixture_phase=None, monitor__audio=True)
    set_params(root, train__loss={"l1": 1.0, "si_sdr": 0.1}, train__steps=4)
    missing = train.error(root)
    assert re.search(r"data/decoded/.*\.wav: no such file, but the manifest names it", missing)
    (root / "data" / "decoded").symlink_to(tiny_project / "data" / "decoded")
    train(root)
    assert [row["step"] for row in history(root)][-1] == "4"
    events = EventAccumulator(str(root / "runs" / "vocals"), size_guidance={"tensors": 0}).Reload()
    assert "vocals/window 0 estimate" in events.Tags()["tensors"]
    assert read_card(root / "models" / "vocals")["provenance"]["train"]["augmentation"] == changes
    set_params(root, train__input="features")
    refused = train(root, code=2)
    assert "train.augmentation needs sound, and train.input=features has none" in refused


def test_monitors_change_nothing(project: Path, train: Stage) -> None:
    train(project)
    watched = weights(project)
    shutil.rmtree(project / ".work")
    set_params(project, monitor__images=False, monitor__tensorboard=False, monitor__dvclive=False)
    shutil.rmtree(project / "runs")
    train(project)
    assert not (project / "runs").exists()
    for name, values in weights(project).items():
        np.testing.assert_array_equal(values, watched[name])


@pytest.mark.system
def test_sigterm_saves_and_the_next_run_ends_as_an_uninterrupted_one(
    project: Path, train: Stage
) -> None:
    set_params(project, train__steps=2000, monitor__checkpoint_every_steps=5000,
               train__validate_every_steps=5000, monitor__dvclive=False)  # fmt: skip
    command = [*CLI, "train", "--stem", "vocals"]
    with subprocess.Popen(
        command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + LIMIT_S
        while not list(project.glob("runs/vocals/events*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while not any(path.stat().st_size > 500 for path in project.glob("runs/vocals/events*")):
            assert time.monotonic() < deadline  # until a row is written
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + signal.SIGTERM
    (line,) = (x for x in printed.splitlines() if "stopped at step" in x)
    step = int(line.split("stopped at step ")[1].split()[0])
    assert 0 < step < 2000
    assert [p.name for p in project.glob(".work/train-vocals/*/checkpoint*")] == [
        f"checkpoint-{step:09d}"
    ]
    assert not (project / "models").exists()

    set_params(project, train__steps=step + 7)
    train(project)
    resumed = weights(project)
    shutil.rmtree(project / ".work")
    train(project)
    for name, values in weights(project).items():
        np.testing.assert_array_equal(values, resumed[name])


def test_a_finished_run_goes_on_or_starts_anew(project: Path, train: Stage) -> None:
    train(project)
    first = weights(project)
    again = train(project)  # as `dvc repro --force` does
    assert "12/12" in again
    for name, values in weights(project).items():
        np.testing.assert_array_equal(values, first[name])

    set_params(project, train__steps=20)
    train(project)
    longer, rows = weights(project), history(project)
    shutil.rmtree(project / ".work")
    train(project)
    assert history(project) == rows
    for name, values in weights(project).items():
        np.testing.assert_array_equal(values, longer[name])

    set_params(project, train__steps=12)  # fewer than are done
    train(project)
    for name, values in weights(project).items():
        np.testing.assert_array_equal(values, first[name])


def test_fine_tuning_starts_from_another_model(project: Path, train: Stage) -> None:
    train(project)
    (project / "models").rename(project / "start")
    start = {
        name: values
        for name, values in np.load(project / "start" / "vocals" / "weights.npz").items()
    }
    # So small a rate that nothing moves: what comes out is what went in.
    set_params(
        project, train__init_from="start", train__learning_rate=1e-30, train__net__norm="batch"
    )
    train(project)
    for name, values in weights(project).items():
        if "moving" not in name:  # statistics of the batches seen
            np.testing.assert_array_equal(values, start[name])
    shutil.rmtree(project / "models")
    set_params(project, train__net__width=4)
    assert (
        "train.init_from=start: its model vocals has width=2, but train.net.width=4"
        in train.error(project)
    )
    set_params(project, train__net__width=2)
    card = project / "start" / "vocals" / "model.json"
    card.write_text(card.read_text().replace('"sample_rate_hz": 44100', '"sample_rate_hz": 48000'))
    assert (
        "train.init_from=start: its model vocals is for sample_rate_hz=48000, but the features "
        "have 44100" in train.error(project)
    )
    set_params(project, train__init_from="nowhere")
    assert "no model.json in it: not a model directory" in train.error(project)


def test_model_json_names_all_that_trained(
    project: Path, train: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "other code" not in train(project)
    first = read_card(project / "models" / "vocals")["provenance"]
    assert first["began_with"] == []
    assert first["packages"]["keras"] == importlib.metadata.version("keras")
    other = {"code": {"sha256": "1" * 64}, "packages": {"keras": "1.0"}, "python": "3.11.0"}
    monkeypatch.setattr(training_results, "trained_by", lambda: other)
    set_params(project, train__steps=16)  # the finished run is continued
    assert "resumes what other code or packages began" in train(project)
    second = read_card(project / "models" / "vocals")["provenance"]
    assert second.items() >= other.items()
    names = ("code", "packages", "python")
    assert second["began_with"] == [{name: first[name] for name in names}]
    record = {
        "git": {"commit": "abc1234def"},
        "code": {"train": "1" * 64},
        "packages": {"keras": "1.0"},
        "python": "3.11.9",
    }
    (line,) = other_origins([project / "models" / "vocals"], record).values()
    assert line.endswith("trained by other code than commit abc1234")


def test_one_stem_can_be_trained_and_separated_alone(project: Path, train: Stage) -> None:
    set_params(project, models=["vocals"])
    train(project)
    for name in ("decoded", "tracks.parquet"):
        place = (project / "data" / "features").resolve().parent
        (project / "data" / name).symlink_to(place / name)
    assert run_main(separate.main) == 0
    (song,) = (project / "estimates").iterdir()
    assert [path.name for path in song.iterdir()] == ["vocals.wav"]


def test_a_softmax_is_one_model_of_all_stems(project: Path, train: Stage) -> None:
    set_params(project, train__net__head="softmax", models=["joint"], monitor__audio=True)
    train(project, "joint")
    card = read_card(project / "models" / "joint")
    assert card["stems"] == list(STEMS)
    assert len(history(project, "joint")) == 6
    shutil.rmtree(project / "models")
    alone = train.error(project)
    assert "--stem vocals: must be one of models: joint" in alone
    set_params(project, models=list(STEMS))
    text = train.error(project)
    assert "models=['vocals', 'drums']: with this train.net the stems depend" in text
    assert "so they must be one model: [joint]" in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"features__bins": 128}, "made with features.bins=64, but params.yaml has 128"),
        (
            {"features__frame_step_samples": 512},
            "made with features.frame_step_samples=1024, but params.yaml has 512",
        ),
        (
            {"corpus__stems": ["vocals", "bass"], "models": ["vocals", "bass"]},
            "made with corpus.stems=['vocals', 'drums'], but params.yaml has ['vocals', 'bass']",
        ),
        (
            {"models": ["drums", "vocals"]},
            "models=['drums', 'vocals']: must be stems of corpus.stems, each once and in their "
            "order: [vocals, drums]",
        ),
        ({"train__net__frames": 4096}, "train.net.frames=4096: the longest run"),
        ({"monitor__audio": True, "features__mixture_phase": None}, "set features.mixture_phase"),
        ({"monitor__tensorboard": False}, "images=true with tensorboard=false"),
        ({"train__schedule": "cosine"}, "cosine_end=None with schedule=cosine"),
        ({"train__weight_decay": 0.1}, "weight_decay=0.1 with optimizer=adam"),
        ({"train__patience": 3}, "patience=3 with schedule=constant"),
        ({"train__warmup_steps": 12}, "warmup_steps=12: must be below steps=12"),
        (
            {"train__preset": "spleeter", "train__optimizer": "adamw"},
            "preset=spleeter: optimizer='adamw': not supported",
        ),
    ],
)
def test_what_does_not_fit(
    project: Path, train: Stage, changes: dict[str, object], problem: str
) -> None:
    set_params(project, **changes)
    assert problem in train.error(project)


def test_an_empty_split(project: Path, tiny_project: Path, train: Stage) -> None:
    """No block was kept: an info.json that says so, and no shard with a record."""
    (project / "data" / "features").unlink()
    shutil.copytree(tiny_project / "data" / "features", project / "data" / "features")
    info = json.loads((project / "data" / "features" / "info.json").read_text())
    info["splits"]["train"].update({"shards": 0, "files": {}})
    (project / "data" / "features" / "info.json").write_text(json.dumps(info))
    assert "the longest run of kept blocks in the train split has 0 frames" in train.error(project)


def test_shards_that_are_not_those_of_info_json(
    project: Path, tiny_project: Path, train: Stage
) -> None:
    """As DVC leaves it, which restores info.json alone."""
    (project / "data" / "features").unlink()
    shutil.copytree(tiny_project / "data" / "features", project / "data" / "features")
    shard = next((project / "data" / "features" / "train").glob("vocals-*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    name = shard.relative_to(project).as_posix()
    advice = "compute the features again (dvc repro --force --single-item features), or set STEM"
    assert f"{name}: its sha256 is not that of info.json: damaged: {advice}" in train.error(project)
    shard.unlink()
    assert f"{name}: no such file, but info.json names it: {advice}" in train.error(project)


def test_training_prints_the_preset_and_what_differs(project: Path, train: Stage) -> None:
    # Windows of 512 frames are longer than the tiny songs: the error names a key that helps.
    set_params(project, train__preset="spleeter", train__net__frames=None)
    failed = train(project, code=2)
    assert "preset spleeter: U-Net, 2 blocks, 2 filters in the first, elu and elu, norm" in failed
    assert "differs from preset spleeter: net.width=2, not 16; net.depth=2, not 6\n" in failed
    assert "train.net.frames=512: the longest run" in failed
    assert "lower train.net.frames" in failed


def test_dvclive_needs_a_commit_where_there_is_a_repository(project: Path, train: Stage) -> None:
    subprocess.run(["git", "init", "--quiet", project], check=True)
    assert "monitor.dvclive: the git repository has no commit: commit" in train.error(project)
    set_params(project, monitor__dvclive=False)
    assert "best validation loss" in train(project)


def test_a_joint_sigmoid_model_is_the_separate_ones(project: Path, train: Stage) -> None:
    """The same windows, the same weights, one step for all stems."""
    set_params(project, monitor__tensorboard=False, monitor__images=False, train__steps=4)
    set_params(project, train__net__norm="affine", train__optimizer="sgd", train__learning_rate=0.1)
    for stem in ("vocals", "drums"):
        train(project, stem)
    set_params(project, models=["joint"])
    train(project, "joint")
    together = weights(project, "joint")
    for stem in ("vocals", "drums"):
        for name, values in weights(project, stem).items():
            np.testing.assert_allclose(values, together[f"{stem}_{name}"], atol=1e-6)
    separator = Separator.load([project / "models" / "joint"], stems=["drums"])
    song = np.full((5000, 2), 0.1, np.float32)
    assert [*separator.separate(song, sample_rate_hz=44100)] == ["drums"]

    # A weight is a factor of the stem's own gradients, which no other stem sees.
    set_params(project, train__stem_weights={"vocals": 1.0, "drums": 1e-3})
    train(project, "joint")
    moved = {
        stem: max(
            float(np.abs(values - together[name]).max())
            for name, values in weights(project, "joint").items()
            if name.startswith(stem)
        )
        for stem in ("vocals", "drums")
    }
    assert moved["vocals"] < 1e-6
    assert moved["drums"] > 1e-4
