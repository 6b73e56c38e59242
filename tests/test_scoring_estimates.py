from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.scoring.estimates import find_estimates, read_estimates
from tests.conftest import RATE_HZ

STEMS = ["vocals", "drums"]
TRACKS = ["A - One", "B - Two"]


def write(path: Path, waveform: np.ndarray, *, rate_hz: int = RATE_HZ) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate_hz, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def find(root: Path) -> dict[str, list[tuple[str, str]]]:
    found = find_estimates(str(root), tracks=TRACKS, stems=STEMS)
    return {t: [(r.target, r.reason) for r in remarks] for t, remarks in found.remarks.items()}


def test_layouts_and_formats(tmp_path: Path) -> None:
    tone = np.full((10, 2), 0.25)
    write(tmp_path / "A - One" / "vocals.wav", tone)
    write(tmp_path / "test" / "B - Two" / "vocals.FLAC", tone)
    write(tmp_path / "A - One" / "mixture.wav", tone)  # no target: no word of it
    found = find_estimates(str(tmp_path), tracks=TRACKS, stems=STEMS)
    assert found.targets == ("vocals",)
    assert {track: list(files) for track, files in found.files.items()} == {
        "A - One": ["vocals"],
        "B - Two": ["vocals"],
    }
    assert found.files["B - Two"]["vocals"].endswith("test/B - Two/vocals.FLAC")
    assert set(found.remarks.values()) == {()}


def test_what_is_missing_or_strange_is_named(tmp_path: Path) -> None:
    tone = np.full((10, 2), 0.25)
    for name in ("vocals.wav", "accompaniment.wav", "drums.wav", "drums.flac"):
        write(tmp_path / "A - One" / name, tone)
    write(tmp_path / "C - Three" / "vocals.wav", tone)
    assert find(tmp_path) == {
        "A - One": [("drums", "ambiguous")],
        "B - Two": [("vocals", "missing"), ("drums", "missing"), ("accompaniment", "missing")],
        "C - Three": [("", "unknown_track")],
    }
    remarks = find_estimates(str(tmp_path), tracks=TRACKS, stems=STEMS).remarks
    assert remarks["A - One"][0].detail == "both drums.flac and drums.wav"


@pytest.mark.parametrize(
    ("names", "files", "problems"),
    [
        # What is no estimate of a known target is as if it were not there.
        (("Vocals.WAV", "DRUMS.Flac"), {"vocals": "Vocals.WAV", "drums": "DRUMS.Flac"}, []),
        (("vocals.wav", "Vocals.wav"), {}, ["vocals: both Vocals.wav and vocals.wav"]),
        (("vocals.wav", "._vocals.wav", ".vocals.flac"), {"vocals": "vocals.wav"}, []),
        (
            ("vocals.wav", "instrumental.wav"),
            {"vocals": "vocals.wav", "accompaniment": "instrumental.wav"},
            [],
        ),
        (
            ("vocals.wav", "no_vocals.wav"),
            {"vocals": "vocals.wav", "accompaniment": "no_vocals.wav"},
            [],
        ),
        (
            ("accompaniment.wav", "instrumental.wav"),
            {},
            ["accompaniment: both accompaniment.wav and instrumental.wav"],
        ),
    ],
)
def test_names_of_targets(
    tmp_path: Path, names: tuple[str, ...], files: dict[str, str], problems: list[str]
) -> None:
    for name in names:
        write_empty(tmp_path / "A - One" / name)
    found = find_estimates(str(tmp_path), tracks=TRACKS[:1], stems=STEMS)
    assert {t: Path(f).name for t, f in found.files["A - One"].items()} == files
    assert [f"{r.target}: {r.detail}" for r in found.remarks["A - One"]] == problems


def write_empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_of_two_stems_that_are_all_each_is_the_others_rest(tmp_path: Path) -> None:
    for name in ("no_speech", "speech"):
        write_empty(tmp_path / "A - One" / f"{name}.wav")
    stems = ["speech", "music"]
    found = find_estimates(str(tmp_path), tracks=["A - One"], stems=stems, complete=True)
    assert found.targets == ("speech", "music")
    found = find_estimates(str(tmp_path), tracks=["A - One"], stems=stems)
    assert found.targets == ("speech", "no_speech")


def test_an_accompaniment_among_the_stems_counts_once(tmp_path: Path) -> None:
    write_empty(tmp_path / "A - One" / "vocals.wav")
    write_empty(tmp_path / "B - Two" / "vocals.wav")
    write_empty(tmp_path / "B - Two" / "no_vocals.wav")
    found = find_estimates(str(tmp_path), tracks=TRACKS, stems=["vocals", "accompaniment"])
    assert found.targets == ("vocals", "accompaniment")
    assert [r.target for r in found.remarks["A - One"]] == ["accompaniment"]
    # Without other stems there is no truth that an accompaniment could be compared with.
    one = find_estimates(str(tmp_path), tracks=TRACKS, stems=["vocals"])
    assert one.targets == ("vocals",)


def test_accents_may_be_characters_of_their_own(tmp_path: Path) -> None:
    """macOS decomposes names; both forms of a name look the same."""
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    write_empty(tmp_path / decomposed / "B\u00e4sse.wav")
    stems = ["Ba\u0308sse", "vocals"]
    found = find_estimates(str(tmp_path), tracks=[composed], stems=stems)
    (place,) = found.files[composed].values()
    assert Path(place).is_file()
    assert list(found.files[composed]) == stems[:1]
    write_empty(tmp_path / composed / "B\u00e4sse.wav")
    (remark,) = find_estimates(str(tmp_path), tracks=[composed], stems=stems).remarks[composed]
    assert remark.detail == f"both {decomposed}/B\u00e4sse.wav and {composed}/B\u00e4sse.wav"


def test_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_estimates(str(tmp_path / "nowhere"), tracks=TRACKS, stems=STEMS)
    write(tmp_path / "C - Three" / "vocals.wav", np.zeros((10, 2)))
    with pytest.raises(UserError, match=r"expected TRACK/TARGET.wav .* A - One/vocals.wav"):
        find(tmp_path)


def test_estimates_are_padded_cut_and_made_stereo(tmp_path: Path) -> None:
    long = np.linspace(-0.5, 0.5, 12)[:, None] * [1.0, -1.0]
    files = {
        "as it is": write(tmp_path / "a.wav", long[:10]),
        "long": write(tmp_path / "b.wav", long),
        "short": write(tmp_path / "c.wav", long[:7]),
        "mono": write(tmp_path / "d.wav", long[:10, :1]),
    }
    found, remarks = read_estimates(files, samples=10, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found["as it is"], long[:10].astype(np.float32))
    np.testing.assert_array_equal(found["long"], found["as it is"])
    np.testing.assert_array_equal(found["short"][:7], found["as it is"][:7])
    assert found["short"].shape == (10, 2)
    assert not found["short"][7:].any()
    np.testing.assert_array_equal(found["mono"], np.repeat(long[:10, :1], 2, 1).astype(np.float32))
    assert [(r.target, r.reason, r.detail) for r in remarks] == [
        ("long", "cut", "2 samples too long, cut"),
        ("short", "padded", "3 samples short, padded with zeros"),
        ("mono", "mono", "mono, scored with both channels equal"),
    ]


def test_half_a_file_is_scored_as_far_as_it_goes(tmp_path: Path) -> None:
    tone = np.linspace(-0.5, 0.5, 2000).reshape(1000, 2)
    path = write(tmp_path / "a.wav", tone)
    content = path.read_bytes()
    path.write_bytes(content[: -500 * 2 * 4])
    found, remarks = read_estimates({"drums": path}, samples=1000, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found["drums"][:500], tone[:500].astype(np.float32))
    assert not found["drums"][500:].any()
    assert [remark.reason for remark in remarks] == ["damaged", "padded"]
    said = "cut off? its header states 8000 bytes of samples, 4000 are there"
    assert remarks[0].detail == said


def test_what_cannot_be_scored_is_left_out_with_a_reason(tmp_path: Path) -> None:
    tone = np.full((10, 2), 0.25)
    tone[3, 0] = np.nan
    files = {
        "other rate": write(tmp_path / "a.wav", np.zeros((10, 2)), rate_hz=48000),
        "not a number": write(tmp_path / "b.wav", tone),
        "surround": write(tmp_path / "c.wav", np.zeros((10, 6))),
        "text": tmp_path / "d.wav",
    }
    files["text"].write_text("not audio")
    found, remarks = read_estimates(files, samples=10, sample_rate_hz=RATE_HZ)
    assert found == {}
    assert [(r.target, r.reason) for r in remarks] == [
        ("other rate", "sample_rate"),
        ("not a number", "non_finite"),
        ("surround", "channels"),
        ("text", "not_audio"),
    ]
    assert remarks[0].detail == "at 48000 Hz, the track at 44100 Hz"
    assert str(tmp_path) not in remarks[3].detail
