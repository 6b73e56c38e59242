import codecs
import json
import os
import re
from pathlib import Path

import musdb
import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.corpus.corpora import (
    CorpusTrack,
    find_tracks,
    hold_out_valid,
)
from stemforge.features.corpus.csv_files import read_csvs
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import (
    Manifest,
    Reject,
    Split,
    Track,
    choose_valid,
    read_manifest,
    write_manifest,
)
from stemforge.features.corpus.musdb18 import MUSDB_VALIDATION_TRACKS
from stemforge.features.corpus.sources import MUSDB_STREAMS
from tests.conftest import RATE_HZ

STEMS = ("vocals", "drums", "bass", "other")


def write_wavs(folder: Path, *, samples: int = RATE_HZ, rate_hz: int = RATE_HZ) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    stems = {stem: random.uniform(-0.1, 0.1, (samples, 2)) for stem in STEMS}
    for name, waveform in {"mixture": sum(stems.values()), **stems}.items():
        soundfile.write(folder / f"{name}.wav", waveform, rate_hz)


def decode(root: Path, out: Path) -> list[Track | Reject]:
    tracks = find_tracks(str(root), stems=STEMS)
    return [decode_track(track, out, root=str(root), subtype="PCM_16") for track in tracks]


def test_stem_files_decode_to_what_musdb_returns(tiny_corpus: Path, tmp_path: Path) -> None:
    results = decode(tiny_corpus, tmp_path)
    theirs = {track.name: track for track in musdb.DB(root=str(tiny_corpus))}
    assert {result.name for result in results if isinstance(result, Track)} == set(theirs)
    for track in results:
        assert isinstance(track, Track)
        assert track.samples == len(theirs[track.name].audio)
        assert -40 < track.residual_db < -15  # AAC
        for source in track.sources:
            target = theirs[track.name]
            truth = target.audio if source.name == "mixture" else target.targets[source.name].audio
            ours, _ = soundfile.read(tmp_path / source.path)
            np.testing.assert_array_equal(ours, truth)
            assert source.rms == pytest.approx(np.sqrt(np.mean(truth**2)), rel=1e-6)
            assert source.peak == pytest.approx(np.abs(truth).max(), rel=1e-6)


def test_hq_folders_are_measured_where_they_lie(tmp_path: Path) -> None:
    write_wavs(tmp_path / "hq" / "train" / "Song")
    (track,) = decode(tmp_path / "hq", tmp_path / "out")
    assert isinstance(track, Track)
    assert not (tmp_path / "out").exists()
    assert track.source("vocals").path == "train/Song/vocals.wav"
    assert track.residual_db < -60  # sums exactly, but for the 16-bit rounding


def test_csv_in_spleeters_format(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_wavs(tmp_path / "audio" / name)
    header = "mix_path,speech_path,noise_path,duration\n"
    for split, name in (("train", "one"), ("test", "two")):
        row = f"audio/{name}/mixture.wav,audio/{name}/vocals.wav,audio/{name}/drums.wav,1.0\n"
        (tmp_path / f"{split}.csv").write_text(header + row)
    csvs = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    tracks = read_csvs(csvs, root=str(tmp_path), stems=("speech", "noise"))  # type: ignore[arg-type]
    assert [(t.name, t.split) for t in tracks] == [("two", "test"), ("one", "train")]
    result = decode_track(tracks[0], tmp_path / "out", root=str(tmp_path), subtype="PCM_16")
    assert isinstance(result, Track)
    assert [source.name for source in result.sources] == ["mixture", "speech", "noise"]
    with pytest.raises(UserError, match="no column song_path"):
        read_csvs(csvs, root=str(tmp_path), stems=("song",))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"corpus.train_csv=.*nowhere.csv: no such file"):
        read_csvs({"train": str(tmp_path / "nowhere.csv")}, root=str(tmp_path), stems=("speech",))


def test_csv_of_mp3_files(tmp_path: Path) -> None:
    """Those that state no length; one is cut off, and the other decoded like a stem file."""
    write_wavs(tmp_path / "wav")
    names = ("mixture", "vocals")
    for split, song in (("train", "one"), ("test", "two")):
        (tmp_path / song).mkdir()
        for name in names:
            mp3 = tmp_path / song / f"{name}.mp3"
            wav = tmp_path / "wav" / f"{name}.wav"
            length = ("-q:a", "4", "-write_xing", "0" if song == "one" else "1")
            ffmpeg.run_ffmpeg("ffmpeg", "-i", wav, *length, mp3)
            if song == "two":
                mp3.write_bytes(mp3.read_bytes()[: mp3.stat().st_size // 2])
        row = f"mix_path,vocals_path\n{song}/mixture.mp3,{song}/vocals.mp3\n"
        (tmp_path / f"{split}.csv").write_text(row)
    csvs = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    tracks = read_csvs(csvs, root=str(tmp_path), stems=("vocals",))  # type: ignore[arg-type]
    out = tmp_path / "out"
    cut, whole = (decode_track(t, out, root=str(tmp_path), subtype="PCM_16") for t in tracks)
    assert isinstance(whole, Track)
    # ffmpeg: frames of 1152 samples that hold a second and the encoder's delay.
    assert whole.samples == 40 * 1152
    assert whole.source("vocals").path == "train/one/vocals.wav"
    decoded, _ = soundfile.read(out / "train/one/vocals.wav", dtype="float32")
    raw = ffmpeg.run_ffmpeg("ffmpeg", "-i", tmp_path / "one" / "vocals.mp3", "-f", "f32le", "-")
    np.testing.assert_allclose(decoded.ravel(), np.frombuffer(raw, "<f4"), atol=2**-15)
    assert isinstance(cut, Reject)
    assert cut.reason == "decode_error"
    assert "cut off? it states 1.00 s" in cut.detail


HEADER = "mix_path,speech_path,noise_path,duration\n"
GOOD = HEADER + "a/ö x/mix.wav,a/ö x/speech.wav,a/ö x/noise.wav,1.0\n"


def read_csv(root: Path, data: bytes) -> list[CorpusTrack]:
    (root / "train.csv").write_bytes(data)
    csvs: dict[Split, str] = {"train": str(root / "train.csv")}
    return read_csvs(csvs, root=str(root), stems=("speech", "noise"))


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode(),
        GOOD.encode("utf-8-sig"),
        GOOD.replace(",", "\t").encode("utf-16"),  # Excel's "Unicode text"
        codecs.BOM_UTF16_BE + GOOD.encode("utf-16-be"),
        GOOD.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"),  # Excel's CSV in Europe
        GOOD.replace("/", "\\").encode(),
        GOOD.replace(",", " , ").encode(),
        GOOD.replace("a/ö x/speech.wav", '  "a/ö x/speech.wav"').encode(),
        ("sep=;\r\n" + GOOD.replace(",", ";")).encode("utf-8-sig"),
        ("\n" + GOOD.replace(",", ";").replace("1.0\n", "1.0;;\n") + ";;;\n\n").encode(),
        GOOD.replace("a/", "nowhere/../a/").encode(),
    ],
    ids=[
        "utf-8",
        "bom",
        "utf-16",
        "be",
        "semicolons",
        "backslashes",
        "blanks",
        "quotes",
        "sep",
        "empty",
        "dots",
    ],
)
def test_a_csv_of_a_spreadsheet_or_of_windows(tmp_path: Path, data: bytes) -> None:
    (track,) = read_csv(tmp_path, data)
    assert track.name == "ö x"
    folder = tmp_path / "a" / "ö x"
    assert {name: os.path.normpath(path) for name, (path,) in track.files.items()} == {
        "mixture": str(folder / "mix.wav"),
        "speech": str(folder / "speech.wav"),
        "noise": str(folder / "noise.wav"),
    }


def test_a_mixture_beside_the_csv_is_named_after_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "song" / "lists").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "song" / "lists")
    Path("train.csv").write_text(HEADER + "../mix.wav,../speech.wav,../noise.wav,1\n")
    (track,) = read_csvs({"train": "train.csv"}, root=".", stems=("speech", "noise"))
    assert track.name == "song"  # and not "..", which is no folder of its own


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (GOOD.encode("cp1252"), "line 2: not UTF-8 text: save the file as UTF-8"),
        (GOOD.encode("utf-16")[:-1], "line 2: not UTF-16 text: save the file as UTF-8"),
        (GOOD.encode() + bytes(9), "line 3: a zero byte, so not text: save"),
        (GOOD.encode() + b"b/mix.wav,b/speech.wav\n", "line 3: 2 cells, but the header has 4: com"),
        (GOOD.encode() + b"b, c/mix.wav,s,n,1\n", "line 3: 5 cells, but the header has 4: .*','"),
        (GOOD.encode() + b"b/mix.wav,,n,1\n", "line 3: speech_path is empty: name a file"),
        (GOOD.encode() + b'"b/mix.wav,s,n,1\n', "line 3: not CSV: unexpected end of data"),
        (GOOD.encode() + b"D:\\b.wav,s,n,1\n", r"line 3: mix_path=D:\\b.wav: a drive of Windows"),
        (HEADER.encode(), "no rows in it"),
        (b"", "no rows in it"),
        (b"mix,speech_path\na,b\n", "no column mix_path in it: its first line names mix, speech_"),
        (b"mix_path,mix_path\na,b\n", "two columns mix_path in it"),
    ],
)
def test_a_csv_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=rf"corpus.train_csv=.*train.csv: {problem}") as raised:
        read_csv(tmp_path, data)
    assert "\n" not in str(raised.value)


def damaged_wavs(whole: bytes) -> dict[str, bytes]:
    """A file of 1 s in ways that are not whole."""
    start = whole.index(b"data") + 4
    unfinished = whole[:start] + bytes(4) + whole[start + 4 :]
    early = whole[:start] + (400).to_bytes(4, "little") + whole[start + 4 :]
    return {
        "cut": whole[: len(whole) // 2],
        "joined": 2 * whole,
        "unfinished": unfinished,
        "finished early": early,
    }


@pytest.mark.parametrize("other", [".wav", ".flac"])  # measured in place, and decoded
@pytest.mark.parametrize("kind", ["cut", "joined", "unfinished", "finished early"])
def test_a_damaged_file_is_refused_in_every_csv(tmp_path: Path, kind: str, other: str) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (RATE_HZ, 2))
    mix, vocals = tmp_path / "mix.wav", tmp_path / f"vocals{other}"
    for path in (mix, vocals):
        soundfile.write(path, noise, RATE_HZ, subtype="PCM_16")
    mix.write_bytes(damaged_wavs(mix.read_bytes())[kind])
    (tmp_path / "c.csv").write_text(f"mix_path,vocals_path\nmix.wav,vocals{other}\n")
    csvs: dict[Split, str] = {"train": str(tmp_path / "c.csv")}
    (track,) = read_csvs(csvs, root=str(tmp_path), stems=("vocals",))
    reject = decode_track(track, tmp_path / "out", root=str(tmp_path), subtype="PCM_16")
    assert isinstance(reject, Reject)
    assert reject.reason == "decode_error"


def test_a_folder_without_files_and_a_dead_link_are_rejects(tmp_path: Path) -> None:
    write_wavs(tmp_path / "hq" / "train" / "Song")
    (tmp_path / "hq" / "train" / "Empty").mkdir()
    (tmp_path / "hq" / "train" / "Dead").symlink_to(tmp_path / "nowhere")
    results = decode(tmp_path / "hq", tmp_path / "out")
    rejects = [result for result in results if isinstance(result, Reject)]
    assert [(r.track, r.reason) for r in rejects] == [
        ("Dead", "missing_stem"), ("Empty", "missing_stem"),
    ]  # fmt: skip
    assert len(results) == 3


def test_a_name_that_is_not_utf8_is_refused_before_any_work(tmp_path: Path) -> None:
    write_wavs(tmp_path / "train" / "cafe")
    (tmp_path / "train" / "cafe").rename(tmp_path / "train" / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UserError, match="a name that is not UTF-8: rename it"):
        find_tracks(str(tmp_path), stems=STEMS)


def test_no_such_folder_and_no_tracks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.root=.*nowhere: no such folder"):
        find_tracks(str(tmp_path / "nowhere"), stems=STEMS)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"no tracks: expected \*.stem.mp4"):
        find_tracks(str(tmp_path), stems=STEMS)


def make_corpus(root: Path, *places: str) -> list[CorpusTrack]:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return find_tracks(str(root), stems=("vocals",))


def test_names_of_tracks_and_their_files(tmp_path: Path) -> None:
    tracks = make_corpus(
        tmp_path,
        "test/Cafe\u0301/Mixture.wav",
        "test/Cafe\u0301/VOCALS.WAV",
        "train/One/vocals.wav",
        # What macOS, Jupyter and editors leave.
        "train/._One.stem.mp4",
        "train/.ipynb_checkpoints/vocals.wav",
        "train/__MACOSX/._vocals.wav",
        "train/__MACOSX/One/._vocals.wav",
        "test/Cafe\u0301/._vocals.wav",
        "test/Cafe\u0301/notes.txt",
    )
    assert [track.name for track in tracks] == ["Caf\u00e9", "One"]
    files = {source: Path(place) for source, (place,) in tracks[0].files.items()}
    assert {s: f.name for s, f in files.items()} == {
        "mixture": "Mixture.wav",
        "vocals": "VOCALS.WAV",
    }
    assert all(file.is_file() for file in files.values())
    (one,) = make_corpus(tmp_path / "stem", "train/One.Stem.MP4", "train/._Two.stem.mp4")
    assert (one.name, one.streams) == ("One", {"mixture": (0,), "vocals": (4,)})


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("test/Song/vocals.wav", "test/Song/Vocals.wav"), "both Vocals.wav and vocals.wav"),
        (("test/Song/vocals.wav", "train/song/vocals.wav"), "track 'song': two have this name"),
        (("test/Caf\u00e9/vocals.wav", "train/Cafe\u0301/vocals.wav"), "two have this name"),
    ],
)
def test_names_that_are_taken_twice(tmp_path: Path, places: tuple[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_corpus(tmp_path, *places)


def test_a_link_to_a_track_is_a_track(tmp_path: Path) -> None:
    make_corpus(tmp_path / "other", "train/Song/vocals.wav")
    (tmp_path / "c" / "test").mkdir(parents=True)
    (tmp_path / "c" / "test" / "Linked").symlink_to(tmp_path / "other" / "train" / "Song")
    (track,) = make_corpus(tmp_path / "c")
    assert Path(track.files["vocals"][0]).is_file()


def test_duplicate_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "Song").mkdir(parents=True)
        (tmp_path / split / "Song" / "mixture.wav").touch()
    with pytest.raises(UserError, match="track 'Song': two have this name"):
        find_tracks(str(tmp_path), stems=STEMS)


def test_a_stem_that_musdb_files_lack(tiny_corpus: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.stems=piano"):
        find_tracks(str(tiny_corpus), stems=("vocals", "piano"))


def only_reject(root: Path, tmp_path: Path) -> Reject:
    (result,) = decode(root, tmp_path / "out")
    assert isinstance(result, Reject)
    assert json.dumps(result.detail)
    return result


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_truncated_stem_file(tiny_corpus: Path, tmp_path: Path, share: float) -> None:
    data = (tiny_corpus / "test" / "Song 9.stem.mp4").read_bytes()
    (tmp_path / "c" / "test").mkdir(parents=True)
    (tmp_path / "c" / "test" / "Cut.stem.mp4").write_bytes(data[: int(len(data) * share)])
    assert only_reject(tmp_path / "c", tmp_path).reason == "decode_error"


def test_a_stem_file_cut_behind_its_header(tiny_corpus: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    source = tiny_corpus / "test" / "Song 9.stem.mp4"
    ffmpeg.run_ffmpeg(
        "ffmpeg", "-i", source, "-map", "0", "-c", "copy", "-movflags", "faststart", whole
    )
    (tmp_path / "c" / "test").mkdir(parents=True)
    data = whole.read_bytes()
    (tmp_path / "c" / "test" / "Cut.stem.mp4").write_bytes(data[: len(data) // 2])
    reject = only_reject(tmp_path / "c", tmp_path)
    assert reject.reason == "decode_error"
    assert re.search(r"it states 3.00 s, and 1.\d\d s are there", reject.detail)


def test_four_streams(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "c" / "test").mkdir(parents=True)
    maps = [part for number in range(4) for part in ("-map", f"0:{number}")]
    out = tmp_path / "c" / "test" / "Four.stem.mp4"
    ffmpeg.run_ffmpeg(
        "ffmpeg", "-i", tiny_corpus / "test" / "Song 9.stem.mp4", *maps, "-c", "copy", out
    )
    reject = only_reject(tmp_path / "c", tmp_path)
    assert (reject.reason, reject.value) == ("missing_stem", 4.0)


def test_wavs_at_48_khz(tmp_path: Path) -> None:
    write_wavs(tmp_path / "c" / "train" / "Song", rate_hz=48000)
    reject = only_reject(tmp_path / "c", tmp_path)
    assert (reject.reason, reject.value) == ("sample_rate", 48000.0)


def test_a_missing_and_a_short_stem(tmp_path: Path) -> None:
    write_wavs(tmp_path / "a" / "train" / "Song")
    (tmp_path / "a" / "train" / "Song" / "bass.wav").unlink()
    assert only_reject(tmp_path / "a", tmp_path).reason == "missing_stem"
    write_wavs(tmp_path / "b" / "train" / "Song")
    soundfile.write(tmp_path / "b" / "train" / "Song" / "bass.wav", np.zeros((10, 2)), RATE_HZ)
    reject = only_reject(tmp_path / "b", tmp_path)
    assert (reject.reason, reject.value) == ("length_mismatch", 10.0 - RATE_HZ)


def test_streams_and_validation_tracks_are_musdbs(tiny_corpus: Path) -> None:
    setup = musdb.DB(root=str(tiny_corpus)).setup
    assert list(MUSDB_VALIDATION_TRACKS) == setup["validation_tracks"]
    assert setup["stem_ids"] == MUSDB_STREAMS


def test_musdbs_own_validation_tracks_are_used_where_all_are_there() -> None:
    official = [f"official {n}" for n in range(14)]
    names = [f"song {n}" for n in range(6)]
    chosen = choose_valid([*official, *names], share=0.2, official=official)
    assert chosen == set(official)
    assert len(choose_valid([*official[1:], *names], share=0.2, official=official)) == 4
    assert len(choose_valid(names, share=0.01, official=official)) == 1
    assert choose_valid(["only"], share=0.5, official=official) == set()


def test_validation_tracks_do_not_depend_on_the_others(tiny_corpus: Path) -> None:
    tracks = find_tracks(str(tiny_corpus), stems=STEMS)
    valid = [
        t.name for t in hold_out_valid(tracks, share=0.3, official=["x"]) if t.split == "valid"
    ]
    assert len(valid) == 1
    again = hold_out_valid(list(reversed(tracks)), share=0.3, official=["x"])
    assert [t.name for t in again if t.split == "valid"] == valid


def test_manifest_round_trip(tiny_corpus: Path, tmp_path: Path) -> None:
    tracks = tuple(t for t in decode(tiny_corpus, tmp_path / "wav") if isinstance(t, Track))
    manifest = Manifest(Path("data/decoded"), STEMS, tracks)
    for name in ("a.parquet", "b.parquet"):
        write_manifest(tmp_path / name, manifest)
    assert read_manifest(tmp_path / "a.parquet") == manifest
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "c.parquet")


def test_some_of_the_stems_need_not_add_up(tiny_corpus: Path, tmp_path: Path) -> None:
    found = find_tracks(str(tiny_corpus), stems=("vocals", "drums"))
    track = decode_track(found[0], tmp_path, root=str(tiny_corpus), subtype="PCM_16")
    assert isinstance(track, Track)
    assert np.isnan(track.residual_db)
