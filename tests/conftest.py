"""Fixtures shared by all tests: a tiny corpus of real .stem.mp4 files, and where data lies.

`--share=N` runs one in N of the selected tests, others with each commit.
"""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from stemforge.features.audio import ffmpeg
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.features.corpus import starter
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.corpus.stem_files import write_stems
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.pretrained import home
from stemforge.pipelines.running.parallel import PROCESSES

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CC0_MUSDB = SHARED / "data" / "cc0-musdb"
RATE_HZ = SAMPLE_RATE_HZ
ffmpeg.put_ffmpeg_on_path()  # musdb and museval refuse to load without it


SHARE: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", type=int, metavar="N", help="run one in N tests, others with each commit, "
        "beside those marked `always`",
    )  # fmt: skip
    parser.addoption(
        "--fuzz-s", type=float, default=600.0, metavar="S", help="how long the slow tests damage "
        "files for each reader (default: %(default)s)",
    )  # fmt: skip
    parser.addoption(
        "--fuzz-seed", type=int, default=0, metavar="N", help="which files (default: %(default)s)"
    )


@pytest.hookimpl(trylast=True)  # after -m has selected
def pytest_configure(config: pytest.Config) -> None:
    """Property tests have no deadline: a busy machine is not a fault."""
    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--share")
    if share is None:
        return
    git = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    always = {item.nodeid for item in items if item.get_closest_marker("always")}
    drawn = draw([item.nodeid for item in items if item.nodeid not in always], commit, share)
    kept = [item for item in items if item.nodeid in always | drawn]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    config.stash[SHARE] = "\n".join(
        [f"commit {commit[:12]}, one in {share}:", *sorted(drawn), "always:", *sorted(always)]
    )
    items[:] = kept


def draw(names: Sequence[str], commit: str, share: int) -> set[str]:
    """One in `share` of the names; the commits' hashes are spread evenly over the draws."""
    return set(sorted(names)[int(commit, 16) % share :: share])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if SHARE in config.stash:
        terminalreporter.section("share of the tests")
        terminalreporter.write_line(config.stash[SHARE])


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """Tracks of a few seconds are done before a second process has started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROCESSES, "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test uses or changes the models that this machine's user has fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(home.VARIABLE, str(tmp_path_factory.getbasetemp() / "home"))
        yield


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20261121)


def write_song(path: Path, *, seed: int, duration_s: float) -> dict[str, np.ndarray]:
    """Writes a generated song as a .stem.mp4 file; returns its sources before coding."""
    song = starter.generate_song(np.random.default_rng(seed), starter.TRAIN, duration_s=duration_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = (MIXTURE, *starter.STREAMS)
    write_stems(path, np.stack([song[name] for name in names]), sources=names)
    return song


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training songs and one test song of 4 s each, MUSDB layout. Read only."""
    root = tmp_path_factory.mktemp("corpus")
    for number in range(3):
        write_song(root / "train" / f"Song {number}.stem.mp4", seed=number, duration_s=4.0)
    write_song(root / "test" / "Song 9.stem.mp4", seed=9, duration_s=3.0)
    return root


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A folder like a checkout: the tiny corpus decoded, and its features. Read only."""
    from tests.factories import compute_project, make_project

    root = tmp_path_factory.mktemp("tiny") / "project"
    return compute_project(make_project(root, tiny_corpus))


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> FeatureSet:
    """Of the tiny corpus' vocals and drums: float32, 64 bins, blocks of 32 frames. Read only."""
    from tests.factories import make_features

    return make_features(tiny_corpus, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small untrained nets, of vocals and of drums. Read only."""
    from stemforge.train.model import Model, save_model
    from stemforge.train.nets.unet import UNet

    root = tmp_path_factory.mktemp("separating") / "models"
    net = UNet(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
    for number, stem in enumerate(("vocals", "drums")):
        (root / stem).mkdir(parents=True)
        model = net.build([stem], seed=number)
        save_model(root / stem, Model((stem,), net, 4096, 1024, RATE_HZ, {"step": 3}, model))
    return root


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """One second, stereo, of 300 Hz: source/tone.wav."""
    path = tmp_path / "source" / "tone.wav"
    path.parent.mkdir()
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)
    soundfile.write(path, np.stack([wave, wave], 1), RATE_HZ)
    return path


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
