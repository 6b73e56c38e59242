"""Fixtures shared by all tests: a tiny corpus of real .stem.mp4 files, and where data lies."""

from pathlib import Path

import numpy as np
import pytest

from stemforge.features import audio, ffmpeg, starter
from stemforge.features.tracks import MIXTURE
from stemforge.pipelines.corpus import write_stems

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CC0_MUSDB = SHARED / "data" / "cc0-musdb"
RATE_HZ = audio.SAMPLE_RATE_HZ
ffmpeg.put_ffmpeg_on_path()  # musdb and museval refuse to load without it


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20261121)


def write_song(path: Path, *, seed: int, duration_s: float) -> dict[str, np.ndarray]:
    """Writes a generated song as a .stem.mp4 file; returns its sources before coding."""
    song = starter.generate_song(np.random.default_rng(seed), starter.TRAIN, duration_s=duration_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_stems(path, np.stack([song[name] for name in (MIXTURE, *starter.STEMS)]))
    return song


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training songs and one test song of 4 s each, MUSDB layout. Read only."""
    root = tmp_path_factory.mktemp("corpus")
    for number in range(3):
        write_song(root / "train" / f"Song {number}.stem.mp4", seed=number, duration_s=4.0)
    write_song(root / "test" / "Song 9.stem.mp4", seed=9, duration_s=3.0)
    return root


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
