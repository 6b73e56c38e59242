"""Copies of songs: their values, and their files against the sum by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.stats import kstest

from stemforge.features.corpus.copies import Copy, draw_copy, plan_copies, write_copy
from stemforge.features.corpus.copy_config import CopyConfig
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Track, is_copy, song_of
from tests.factories import LIMITS

RATE_HZ, SAMPLES = 44100, 50_000
CONFIG = CopyConfig(2, (-2.0, 1.0), (0.9, 1.2), 1)
SOURCES = ("mixture", "vocals", "drums")


def tone(frequency_hz: float, amplitude: float) -> NDArray[np.float64]:
    wave = amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(SAMPLES) / RATE_HZ)
    return np.stack([wave, -0.5 * wave], 1)


def make_song(
    folder: Path, *, rest: float = 0.0, loud: float = 0.2
) -> tuple[Track, dict[str, Path]]:
    """Stereo vocals of 440 Hz, mono drums of 1000 Hz, and a rest of 3000 Hz in the mixture."""
    folder.mkdir()
    stems = {"vocals": tone(440, loud), "drums": tone(1000, loud)[:, :1]}
    mixture = stems["vocals"] + stems["drums"] + tone(3000, rest)
    for name, waveform in {"mixture": mixture, **stems}.items():
        soundfile.write(folder / f"{name}.wav", waveform, RATE_HZ, subtype="PCM_16")
    files = {name: folder / f"{name}.wav" for name in SOURCES}
    places = {name: (str(path),) for name, path in files.items()}
    found = decode_track(
        CorpusTrack("A - Song", "train", places, {}, is_complete=not rest),
        folder, root=str(folder), subtype="PCM_16",
    )  # fmt: skip
    assert isinstance(found, Track)
    return found, files


def amplitude(waveform: NDArray[np.float64], frequency_hz: float) -> float:
    """Of a tone, by the definition of the Fourier coefficient."""
    time_s = np.arange(len(waveform)) / RATE_HZ
    turns = np.exp(-2j * np.pi * frequency_hz * time_s) * np.hanning(len(waveform))
    return float(abs(waveform @ turns) * 2 / np.hanning(len(waveform)).sum())


def read(out: Path, track: Track) -> dict[str, NDArray[np.int16]]:
    return {s.name: soundfile.read(out / s.path, dtype="int16", always_2d=True)[0]
            for s in track.sources}  # fmt: skip


@pytest.mark.parametrize("rest", [0.0, 0.05])
def test_the_mixture_is_the_sum_of_the_changed_stems(tmp_path: Path, rest: float) -> None:
    track, files = make_song(tmp_path / "song", rest=rest)
    out = tmp_path / "out"
    found = write_copy(Copy(track, 1, 2.0, 1.1), files, out, subtype="PCM_16")
    assert (found.name, found.split) == ("A - Song/copy 1", "train")
    assert found.source("drums").path == "train/A - Song/copy 1/drums.wav"
    assert found.samples == pytest.approx(SAMPLES / 1.1, rel=0.01)
    assert found.is_complete == track.is_complete
    sources = read(out, found)
    left = sources["mixture"].astype(int) - sources["vocals"] - sources["drums"]
    if not rest:
        assert not left.any()
        assert found.residual_db == -np.inf
    pitch, middle = 2 ** (2 / 12), slice(5000, 40_000)
    for waveform, frequency_hz, wanted in (
        (left, 3000, rest),
        (sources["vocals"], 440, 0.2),
        (sources["drums"], 1000, 0.2),
    ):
        got = amplitude(waveform[middle, 0] / 2.0**15, frequency_hz * pitch)
        assert got == pytest.approx(wanted, rel=0.06, abs=1e-4)  # 0.5 dB
    assert sorted(path.name for path in (out / "train" / found.name).iterdir()) == [
        "drums.wav", "mixture.wav", "vocals.wav",
    ]  # fmt: skip


def test_loud_songs_get_one_gain_instead_of_clipping(tmp_path: Path) -> None:
    track, files = make_song(tmp_path / "song", loud=0.8)  # their sum is clipped at 1.0
    out = tmp_path / "out"
    sources = read(out, write_copy(Copy(track, 1, 0.0, 1.0), files, out, subtype="PCM_16"))
    peaks = {name: int(np.abs(values.astype(int)).max()) for name, values in sources.items()}
    assert peaks["mixture"] == pytest.approx(0.999 * 2**15, abs=3)
    assert peaks["vocals"] == pytest.approx(peaks["drums"], rel=1e-3)
    assert not (sources["mixture"].astype(int) - sources["vocals"] - sources["drums"]).any()
    floats = write_copy(Copy(track, 2, 0.0, 1.0), files, out, subtype="FLOAT")
    assert floats.source("mixture").peak > 1.5  # no gain is needed
    assert floats.source("vocals").peak == pytest.approx(0.8, rel=0.01)


def test_values_depend_on_seed_song_and_number_alone(tmp_path: Path) -> None:
    song, _ = make_song(tmp_path / "song")
    songs = [dataclasses.replace(song, name=f"Song {number}") for number in range(200)]
    copies, bad = plan_copies(songs, CONFIG, LIMITS)
    assert not bad
    assert [(copy.track.name, copy.number) for copy in copies[:3]] == [
        ("Song 0", 1), ("Song 0", 2), ("Song 1", 1),
    ]  # fmt: skip
    assert plan_copies(songs[7:9], CONFIG, LIMITS)[0] == copies[14:18]
    assert draw_copy(songs[0], 1, dataclasses.replace(CONFIG, seed=2)) != copies[0]
    for values, (low, high) in (
        ([copy.semitones for copy in copies], CONFIG.pitch_semitones),
        ([copy.tempo for copy in copies], CONFIG.tempo),
    ):
        assert len({*values}) == 400
        assert kstest(values, "uniform", (low, high - low)).pvalue > 0.01
    assert {song_of(copy.name) for copy in copies} == {song.name for song in songs}
    assert all(is_copy(copy.name) for copy in copies)
    assert not any(is_copy(song.name) for song in songs)


def test_songs_that_features_reject_get_no_copies(tmp_path: Path) -> None:
    song, _ = make_song(tmp_path / "song")
    wrong = dataclasses.replace(song, name="wrong", residual_db=3.0)
    source = dataclasses.replace(song.sources[1], rms=float("nan"))
    damaged = dataclasses.replace(song, name="nan", sources=(song.sources[0], source))
    copies, bad = plan_copies([wrong, song, damaged], CONFIG, LIMITS)
    assert {copy.track.name for copy in copies} == {"A - Song"}
    assert bad == ["wrong", "nan"]
