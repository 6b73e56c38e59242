"""The wheel with each extra alone in an empty environment, and the command that the extra is for.

An environment's Python runs in a folder without a checkout, with nothing else on PATH.
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import installs
from stemforge.eval.exports import files as export
from stemforge.train.model import save_model
from stemforge.train.model_files import tflite_name
from tests import locked
from tests.conftest import RATE_HZ
from tests.factories import untrained
from tests.test_runtimes_tensorflow import NETS, trained

pytestmark = pytest.mark.slow
MAX_PLAIN_MB = 350
LIMIT_S = 300
STEMS = ("vocals", "drums", "bass", "other")
HEAVY = {"apache-beam", "dvc", "pandas", "tensorflow", "tensorflow-cpu"}


@dataclass(frozen=True)
class Install:
    """An environment that holds the wheel and what one extra brings."""

    python: Path

    def run(
        self, *arguments: str | Path, folder: Path, code: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=folder,
            env={"PATH": str(self.python.parent), "HOME": str(folder), "NO_GCE_CHECK": "true"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == code, done.stderr
        return done

    def stemforge(
        self, *arguments: str | Path, folder: Path, code: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        command = ("-c", "from stemforge.pipelines.commands.main import run; run()")
        return self.run(*command, *arguments, folder=folder, code=code)

    def lacks(self, *names: str) -> bool:
        return not {*names} & locked.versions(self.python).keys()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not locked.has_uv():
        pytest.skip("this environment has not locks/setup.lock's uv: `make setup-dev`")
    return installs.build_wheel(tmp_path_factory.mktemp("wheel"))


def install(wheel: Path, extra: str, folder: Path) -> Install:
    return Install(installs.install(wheel, extra, folder / "venv", cached=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model directories of two stems of a tiny net."""
    root = tmp_path_factory.mktemp("models")
    for seed, stem in enumerate(STEMS[:2]):
        (root / stem).mkdir()
        save_model(root / stem, trained(NETS["4stems"], (stem,), seed=seed))
    return root


@pytest.fixture(scope="module")
def tflite_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as TFLite files."""
    root = tmp_path_factory.mktemp("tflite")
    for seed, stem in enumerate(STEMS[:2]):
        model = trained(NETS["4stems"], (stem,), seed=seed)
        (root / tflite_name(stem, "float32")).write_bytes(export.to_tflite(model))
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MUSDB18-HQ's layout: one test song of noise of 2 s."""
    root = tmp_path_factory.mktemp("hq")
    random = np.random.default_rng(20261126)
    stems = {name: random.normal(0, 0.1, (2 * RATE_HZ, 2)) for name in STEMS}
    for name, waveform in {**stems, "mixture": sum(stems.values())}.items():
        write_wav(root / "test" / "Noise" / f"{name}.wav", np.asarray(waveform))
    return root


def write_wav(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, RATE_HZ)


def assert_names_extra(done: "subprocess.CompletedProcess[str]", what: str, extra: str) -> None:
    """One line: what was asked for, the package, and the extra that brings it."""
    install = re.escape(f"which is not installed: pip install 'stemforge[{extra}]'")
    assert re.fullmatch(rf"(stemforge: error: )?{what} needs [\w.]+, {install}\n", done.stderr), (
        done.stderr
    )


def test_plain_separates_with_tflite_files(
    wheel: Path, tmp_path: Path, corpus: Path, models: Path, tflite_files: Path
) -> None:
    plain = install(wheel, "", tmp_path)
    assert installs.size_mb(tmp_path / "venv") < MAX_PLAIN_MB
    assert plain.lacks(*HEAVY)
    empty = tmp_path / "empty"
    empty.mkdir()
    song = corpus / "test" / "Noise" / "mixture.wav"
    plain.stemforge("separate", song, "--model", tflite_files, "--output", "out", folder=empty)
    for stem in STEMS[:2]:
        assert soundfile.info(empty / "out" / "mixture" / f"{stem}.wav").frames == 2 * RATE_HZ
    script = (
        "import sys\nfrom pathlib import Path\nimport stemforge\n"
        "waveform, rate = stemforge.load_song(Path(sys.argv[1]))\n"
        "separator = stemforge.Separator.load(stemforge.find_models(Path(sys.argv[2])))\n"
        "print(*sorted(separator.separate(waveform, sample_rate_hz=rate)))"
    )
    done = plain.run("-c", script, song, tflite_files, folder=empty)
    assert done.stdout == "drums vocals\n"

    separate = ("separate", song, "--model", models, "--output", "other")
    done = plain.stemforge(*separate, folder=empty, code=2)
    assert "pip install 'stemforge[train]'" in done.stderr
    score = ("score", corpus, "--corpus", corpus, "--output", "scores")
    done = plain.stemforge(*score, folder=empty, code=2)
    assert_names_extra(done, "stemforge score", "score")
    done = plain.run("-c", "import stemforge\nstemforge.score_track", folder=empty, code=1)
    assert done.stderr.splitlines()[-1].endswith("pip install 'stemforge[score]'")
    assert sorted(path.name for path in empty.iterdir()) == ["out"]


def test_score_scores_folders_of_wav_files(wheel: Path, tmp_path: Path, corpus: Path) -> None:
    score = install(wheel, "score", tmp_path)
    assert score.lacks(*(HEAVY - {"pandas"}))
    estimates = tmp_path / "mine"
    random = np.random.default_rng(0)
    for stem in STEMS:
        truth, _ = soundfile.read(corpus / "test" / "Noise" / f"{stem}.wav")
        noise = random.normal(0, 0.01, truth.shape)
        write_wav(estimates / "Noise" / f"{stem}.wav", truth + noise)
    score.stemforge("score", estimates, "--corpus", corpus, "--output", "out", folder=tmp_path)
    written = json.loads((tmp_path / "out" / "mine" / "test" / "Noise.json").read_text())
    for target in written["targets"]:
        # By hand: noise of a tenth of the signal's amplitude is 20 dB below it.
        sdr = [frame["metrics"]["SDR"] for frame in target["frames"]]
        assert np.median(sdr) == pytest.approx(20, abs=0.2)
    assert "mine" in (tmp_path / "out" / "leaderboard.md").read_text()

    score.stemforge("export", corpus, "--output", "exports", folder=tmp_path, code=2)
    assert not (tmp_path / "exports").exists()


def test_features_runs_the_feature_job(wheel: Path, tmp_path: Path, tiny_project: Path) -> None:
    features = install(wheel, "features", tmp_path)
    assert features.lacks("tensorflow", "tensorflow-cpu", "keras", "dvc", "pandas")
    project = tmp_path / "project"
    project.mkdir()
    for name in ("params.yaml", "data"):
        (project / name).symlink_to(tiny_project / name)
    made = tiny_project / "data" / "features"
    project.joinpath("data").unlink()
    project.joinpath("data").mkdir()
    for path in (tiny_project / "data").iterdir():
        if path.name != "features":
            (project / "data" / path.name).symlink_to(path)
    features.stemforge("features", folder=project)
    for path in made.rglob("*.tfrecord"):
        same = project / "data" / "features" / path.relative_to(made)
        assert same.read_bytes() == path.read_bytes()
    features.stemforge("verify", "data/features", "--compare", made, folder=project)

    done = features.stemforge("train", "--stem", "vocals", folder=project, code=2)
    assert "pip install 'stemforge[train]'" in done.stderr


def test_train_trains(wheel: Path, tmp_path: Path, tiny_project: Path) -> None:
    train = install(wheel, "train", tmp_path)
    assert train.lacks("apache-beam", "ai-edge-quantizer", "pandas")
    project = untrained(tiny_project, tmp_path / "project")
    train.stemforge("train", "--stem", "vocals", folder=project)
    card = json.loads((project / "models" / "vocals" / "model.json").read_text())
    assert card["stems"] == ["vocals"]
    done = train.stemforge("info", "models", folder=project)
    assert "vocals" in done.stdout
    song = tmp_path / "song.wav"
    write_wav(song, np.full((RATE_HZ, 2), 0.1))
    masked = ("--mask", "direct", "--output", "stems")
    train.stemforge("separate", song, "--model", "models", *masked, folder=project)
    assert soundfile.info(project / "stems" / "song" / "vocals.wav").frames == RATE_HZ

    done = train.stemforge("features", folder=project, code=2)
    assert "pip install 'stemforge[features]'" in done.stderr


def test_export_exports(wheel: Path, tmp_path: Path, corpus: Path, models: Path) -> None:
    exporter = install(wheel, "export", tmp_path)
    assert exporter.lacks("apache-beam", "dvc", "pandas", "tensorboard")
    flags = ("--output", "exports", "--corpus", corpus, "--frames", "32")
    exporter.stemforge("export", models, *flags, folder=tmp_path)
    written = {path.name for path in (tmp_path / "exports").iterdir()}
    assert {"parity.json", "saved_model", "vectors"} <= written
    assert list((tmp_path / "exports").rglob("*int8*.tflite"))

    done = exporter.stemforge("export", models, "--output", "more", folder=tmp_path, code=2)
    assert "pip install 'stemforge[ffmpeg]'" in done.stderr
    assert done.stderr.count("\n") == 1
    score = ("score", corpus, "--corpus", corpus, "--output", "scores")
    done = exporter.stemforge(*score, folder=tmp_path, code=2)
    assert_names_extra(done, "stemforge score", "score")
