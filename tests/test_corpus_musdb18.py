"""Which test set a corpus has, by names, lengths and kind of file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.eval.leaderboard import published
from stemforge.features.corpus import musdb18
from stemforge.features.corpus.corpora import find_tracks
from stemforge.features.corpus.lengths import read_lengths
from stemforge.features.corpus.sources import STEMS
from tests.conftest import SHARED

EXCERPTS = SHARED / "data" / "musdb18-7"
SIX = 300_032 / 44_100


def whole() -> dict[str, float]:
    """Lengths that agree with SiSEC 2018's number of frames, from its own scores."""
    frames = published.sisec18().groupby("track")["frames"].min()
    return {str(song): count + 0.5 for song, count in frames.items()}


def some(lengths: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(lengths.items())[:20])


EIGHT = dict.fromkeys(whole(), 8.0)
ONE_CUT = {**whole(), "PR - Oh No": 60.0}
AT_A_SECOND = {**whole(), "PR - Oh No": 76.02, "Mu - Too Bright": 271.98}
STRANGER = {**whole(), "Mine": 200.0}


@pytest.mark.parametrize(
    ("lengths", "wavs", "name", "statement"),
    [
        (whole(), False, "MUSDB18", "MUSDB18: its 50 test songs"),
        (AT_A_SECOND, False, "MUSDB18", "MUSDB18: its 50 test songs"),
        (some(whole()), False, "MUSDB18", "20 of MUSDB18's 50 test songs"),
        (whole(), True, "MUSDB18-HQ", "MUSDB18-HQ: its 50 test songs, as WAV files"),
        (
            *(some(whole()), True, "MUSDB18-HQ"),
            "MUSDB18-HQ: 20 of its 50 test songs, as WAV files",
        ),
        (
            *(dict.fromkeys(whole(), SIX), False, "MUSDB18-7"),
            "MUSDB18-7: excerpts of 6.8 s of MUSDB18's 50 test songs",
        ),
        (
            *(dict.fromkeys(some(whole()), SIX), True, "MUSDB18-7"),
            "MUSDB18-7: excerpts of 6.8 s of 20 of MUSDB18's 50 test songs",
        ),
        (
            *(EIGHT, False, ""),
            "MUSDB18's 50 test songs by name, but of other lengths: another test set",
        ),
        (
            *(ONE_CUT, False, ""),
            "MUSDB18's 50 test songs by name, but of other lengths: another test set",
        ),
        (
            *(STRANGER, False, ""),
            "50 of MUSDB18's 50 test songs by name, and 1 more: another test set than MUSDB18's",
        ),
        (
            *({"PR - Oh No": SIX}, False, "MUSDB18-7"),
            "MUSDB18-7: an excerpt of 6.8 s of 1 of MUSDB18's 50 test songs",
        ),
        (
            *({"PR - Oh No": 8.0}, False, ""),
            "1 of MUSDB18's 50 test songs by name, but of another length: another test set",
        ),
        ({"Mine": SIX}, False, "", ""),
        ({}, False, "", ""),
    ],
)
def test_what_a_test_set_is(
    lengths: dict[str, float], *, wavs: bool, name: str, statement: str
) -> None:
    found = musdb18.recognise_test_set(lengths, wavs=wavs)
    assert (found.name, found.statement) == (name, statement)
    assert found.is_musdb18 == (name == "MUSDB18" and len(lengths) == 50)


def test_a_stem_file_is_one_file_for_all_sources() -> None:
    assert not musdb18.are_wavs([("a", "a"), ("b", "b")])
    assert musdb18.are_wavs([("a", "a"), ("b", "c")])
    assert not musdb18.are_wavs([])


def test_the_table_has_the_oracles_frames() -> None:
    """SiSEC 2018's IRM1 was scored on the true stems: a frame for each whole second."""
    scores = published.sisec18()
    oracle = scores[scores["method"] == "IRM1 (SiSEC 2018)"]
    assert dict(musdb18.whole_seconds()) == dict(
        zip(oracle["track"], oracle["frames"], strict=True)
    )


@pytest.mark.skipif(not EXCERPTS.is_dir(), reason=f"{EXCERPTS.name} is not here")
def test_real_excerpts() -> None:
    tracks = [t for t in find_tracks(str(EXCERPTS), stems=STEMS) if t.split == "test"]
    lengths = read_lengths(tracks)
    durations = {name: length.seconds for name, length in lengths.items() if length}
    found = musdb18.recognise_test_set(durations, wavs=False)
    assert found.name == "MUSDB18-7"
    assert f" {len(tracks)} of MUSDB18's 50" in found.statement


def test_a_song_that_cannot_be_read_has_no_length(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "stems" / "test").mkdir(parents=True)
    (tmp_path / "stems" / "test" / "Broken.stem.mp4").write_bytes(b"no audio")
    (tmp_path / "wavs" / "test" / "Empty").mkdir(parents=True)
    (tmp_path / "wavs" / "test" / "Empty" / "mixture.wav").touch()
    (tmp_path / "wavs" / "test" / "Missing").mkdir()
    for folder, songs in (("stems", ["Broken"]), ("wavs", ["Empty", "Missing"])):
        tracks = find_tracks(str(tmp_path / folder), stems=STEMS)
        assert read_lengths(tracks) == dict.fromkeys(songs)
    (song,) = [t for t in find_tracks(str(tiny_corpus), stems=STEMS) if t.split == "test"]
    length = read_lengths([song])[song.name]
    assert length is not None
    assert length.seconds == pytest.approx(3.0, abs=0.1)


def test_a_song_without_a_mixture_is_as_long_as_its_longest_stem(tmp_path: Path) -> None:
    for song, lengths in (("A", (400, 1000, 900, 10)), ("B", (1000, 5, 5, 5))):
        (tmp_path / song).mkdir()
        for stem, samples in zip(STEMS, lengths, strict=True):
            soundfile.write(tmp_path / song / f"{stem}.wav", np.zeros((samples, 2)), 8000)
    (tmp_path / "B" / "bass.wav").write_bytes(b"no audio")
    tracks = find_tracks(str(tmp_path), stems=STEMS)
    found = read_lengths(tracks)
    assert found["A"] is not None
    assert (found["A"].samples, found["A"].sample_rate_hz, found["B"]) == (1000, 8000, None)
