"""The layouts of a corpus: MoisesDB's, the challenges', flat folders; and folders that are none."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from ruamel.yaml import YAML

from stemforge.errors import UserError
from stemforge.features.corpus.corpora import CorpusTrack, choose_test, find_tracks
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Reject, Track
from stemforge.pipelines.params import Corpus
from tests.conftest import RATE_HZ, ROOT

STEMS = ("vocals", "drums", "bass", "other")
TWO = ("vocals", "other")
MAPPING = {"vocals": ["vocals"], "other": ["guitar", "other_keys"]}


def touch(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


def write(path: Path, signal: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE_HZ, subtype="FLOAT")


def write_moises(song: Path, stems: Mapping[str, Sequence[NDArray[np.float64]]]) -> None:
    """A song as moisesdb reads it: data.json lists the files of each stem."""
    listed = []
    for name, signals in stems.items():
        files = [f"{name}-{number}" for number in range(len(signals))]
        for file, signal in zip(files, signals, strict=True):
            write(song / name / f"{file}.wav", signal)
        tracks = [
            {"id": f, "extension": "wav", "trackType": "x", "has_bleed": False} for f in files
        ]
        listed.append({"id": f"{name}-id", "stemName": name, "tracks": tracks})
    data = {"song": "Title", "artist": "Somebody", "genre": "rock", "stems": listed}
    (song / "data.json").write_text(json.dumps(data))


@pytest.fixture
def parts(random: np.random.Generator) -> dict[str, list[NDArray[np.float64]]]:
    """Stems of MoisesDB: two files of vocals, one of them shorter and mono."""
    return {
        "vocals": [
            random.uniform(-0.2, 0.2, (RATE_HZ, 2)),
            random.uniform(-0.2, 0.2, (RATE_HZ // 2, 1)),
        ],
        "guitar": [random.uniform(-0.2, 0.2, (RATE_HZ, 2))],
        "other_keys": [random.uniform(-0.2, 0.2, (RATE_HZ - 100, 2))],
    }


def padded(signals: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """As moisesdb's pad_and_mix: the sum, as long as the longest."""
    total = np.zeros((RATE_HZ, 2))
    for signal in signals:
        total[: len(signal)] += signal
    return total


def decode(track: CorpusTrack, root: Path, out: Path) -> Track:
    found = decode_track(track, out, root=str(root), subtype="FLOAT")
    assert isinstance(found, Track)
    return found


def test_stems_of_moisesdb_are_summed_and_make_the_mixture(
    parts: dict[str, list[NDArray[np.float64]]], tmp_path: Path
) -> None:
    root = tmp_path / "moisesdb_v0.1"
    write_moises(root / "uuid-1", parts)
    write(root / "uuid-1" / "vocals" / "not-listed.wav", parts["guitar"][0])
    (track,) = find_tracks(str(root), stems=TWO, mapping=MAPPING)
    assert (track.name, track.split, track.is_complete) == ("uuid-1", "test", True)
    found = decode(track, root, tmp_path / "out")
    sums = {
        "mixture": padded([signal for signals in parts.values() for signal in signals]),
        "vocals": padded(parts["vocals"]),
        "other": padded([*parts["guitar"], *parts["other_keys"]]),
    }
    assert [source.name for source in found.sources] == [*sums]
    for source in found.sources:
        ours, _ = soundfile.read(tmp_path / "out" / source.path)
        np.testing.assert_allclose(ours, sums[source.name], rtol=0, atol=1e-7)
    assert found.residual_db < -120
    lines = [
        hashlib.sha256(Path(place).read_bytes()).hexdigest() + "\n"
        for place in track.files["vocals"]
    ]
    assert len(lines) == 2
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert found.source("vocals").file_sha256 == whole


def test_a_sum_beyond_full_scale_is_clipped_and_counted(tmp_path: Path) -> None:
    for name in ("vocals", "other"):
        write(tmp_path / "Song" / f"{name}.wav", np.full((10, 2), 0.75))
    (track,) = find_tracks(str(tmp_path), stems=TWO)
    found = decode_track(track, tmp_path / "out", root=str(tmp_path), subtype="PCM_16")
    assert isinstance(found, Track)
    assert [source.clipped_values for source in found.sources] == [20, 0, 0]
    ours, _ = soundfile.read(tmp_path / "out" / found.source("mixture").path)
    np.testing.assert_array_equal(ours, np.full((10, 2), 1.0 - 2.0**-15))


def test_streams_of_a_stem_file_are_summed(tiny_corpus: Path, tmp_path: Path) -> None:
    mapping = {"other": ["drums", "bass", "other"]}
    track = find_tracks(str(tiny_corpus), stems=TWO, mapping=mapping)[0]
    assert track.is_complete
    decode(track, tiny_corpus, tmp_path / "out")
    own = find_tracks(str(tiny_corpus), stems=STEMS)[0]
    decode(own, tiny_corpus, tmp_path / "own")
    folder = Path(track.split) / track.name
    stems = [soundfile.read(tmp_path / "own" / folder / f"{s}.wav")[0] for s in STEMS[1:]]
    ours, _ = soundfile.read(tmp_path / "out" / folder / "other.wav")
    np.testing.assert_allclose(ours, np.sum(stems, axis=0), rtol=0, atol=1e-6)


def test_a_flat_folder_with_single_files_and_a_mixture_is_not_decoded(tmp_path: Path) -> None:
    names = ("mixture", "vocals", "rest")
    touch(tmp_path, *(f"{song}/{name}.WAV" for song in ("A", "B") for name in names))
    touch(tmp_path, "A/._vocals.wav", "._C/vocals.wav", "__MACOSX/A/._rest.wav", "notes/a.txt")
    tracks = find_tracks(str(tmp_path), stems=TWO, mapping={"other": ["Rest"]})
    assert [(t.name, t.split, t.is_decoded) for t in tracks] == [
        ("A", "test", False), ("B", "test", False),
    ]  # fmt: skip
    assert tracks[0].files["other"] == (str(tmp_path / "A/rest.WAV"),)
    # One song without a mixture has all decoded: the manifest has one root.
    touch(tmp_path, *(f"C/{name}.wav" for name in names[1:]))
    tracks = find_tracks(str(tmp_path), stems=TWO, mapping={"other": ["rest"]})
    assert [track.is_decoded for track in tracks] == [True] * 3
    assert [Path(file).name for file in tracks[2].files["mixture"]] == ["vocals.wav", "rest.wav"]


@pytest.mark.parametrize("stem_files", [False, True])
def test_a_folder_without_a_wanted_stem_is_no_song(tmp_path: Path, *, stem_files: bool) -> None:
    touch(tmp_path, "extras/click.wav", "backup/B/vocals.wav", "notes/a.txt")
    touch(tmp_path, *(["A.stem.mp4"] if stem_files else ["A/Vocals.WAV", "A/other.wav"]))
    said: list[str] = []
    tracks = find_tracks(str(tmp_path), stems=TWO, remark=said.append)
    assert [track.name for track in tracks] == ["A"]
    assert said == [
        f"corpus.root={tmp_path}: left out 2 folders without a wanted stem or a mixture: "
        "backup, extras"
    ]


def test_a_song_may_be_called_test(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{song}/{stem}.wav" for song in ("Test", "B") for stem in TWO))
    assert [track.name for track in find_tracks(str(tmp_path), stems=TWO)] == ["B", "Test"]


def test_the_challenges_songs_without_a_mixture(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{song}/{stem}.wav" for song in "AB" for stem in STEMS))
    tracks = find_tracks(str(tmp_path), stems=STEMS)
    assert [len(track.files["mixture"]) for track in tracks] == [4, 4]
    assert tracks[0].is_complete


def test_test_songs_of_a_flat_folder_have_the_smallest_sha256(tmp_path: Path) -> None:
    songs = [f"Song {number}" for number in range(10)]
    touch(tmp_path, *(f"{song}/{stem}.wav" for song in songs for stem in TWO))
    tracks = choose_test(find_tracks(str(tmp_path), stems=TWO), share=0.3)
    ordered = sorted(songs, key=lambda song: hashlib.sha256(song.encode()).hexdigest())
    assert {t.name for t in tracks if t.split == "test"} == {*ordered[:3]}
    assert {t.name for t in tracks if t.split == "train"} == {*ordered[3:]}


def test_a_missing_stem_is_the_songs_reject(
    parts: dict[str, list[NDArray[np.float64]]], tmp_path: Path
) -> None:
    for song in ("a", "b"):
        write_moises(tmp_path / "m" / song, parts)
    (tmp_path / "m" / "a" / "vocals" / "vocals-1.wav").unlink()
    write_moises(tmp_path / "m" / "c", {"guitar": parts["guitar"]})
    results = [
        decode_track(track, tmp_path / "out", root=str(tmp_path), subtype="FLOAT")
        for track in find_tracks(str(tmp_path / "m"), stems=TWO, mapping=MAPPING)
    ]
    assert [type(result) for result in results] == [Reject, Track, Reject]
    for result, place in zip(results[::2], ("a/vocals/vocals-1.wav", "c/vocals.wav"), strict=True):
        assert isinstance(result, Reject)
        assert result.reason == "missing_stem"
        assert f"m/{place}: no such file" in result.detail


def test_a_cut_file_of_a_sum_is_named(
    parts: dict[str, list[NDArray[np.float64]]], tmp_path: Path
) -> None:
    write_moises(tmp_path / "m" / "a", parts)
    cut = tmp_path / "m" / "a" / "vocals" / "vocals-1.wav"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (track,) = find_tracks(str(tmp_path / "m"), stems=TWO, mapping=MAPPING)
    found = decode_track(track, tmp_path / "out", root=str(tmp_path), subtype="FLOAT")
    assert isinstance(found, Reject)
    assert found.reason == "decode_error"
    assert f"{cut}: cut off? its header states" in found.detail
    assert not list((tmp_path / "out").rglob("*.wav"))


MANY = [f"{song}/{stem}.wav" for song in ("A", "B") for stem in STEMS]
TRAIN = [f"train/{place}" for place in MANY]


@pytest.mark.parametrize(
    ("places", "root", "message"),
    [
        (TRAIN, "train", "corpus.root={}/train: one split of a corpus: name the folder above, {}"),
        (["train/a.stem.mp4"], "train", "one split of a corpus: name the folder above, {}"),
        (TRAIN, "train/A", "a song or a part of one: name the folder of all songs, {}"),
        (["m/a/data.json", "m/a/vocals/1.wav"], "m/a/vocals", "name the folder of all songs, {}/m"),
        (["m/a/data.json", "m/a/vocals/1.wav"], "m/a", "name the folder of all songs, {}/m"),
        (["m/a/vocals/1.wav", "m/a/bass/1.wav"], "m/a", "name the folder of all songs, {}/m"),
        (["m/a/data.json", "m/a/vocals/1.wav"], "", "one level deeper: name {}/m"),
        (["hq/train/A/vocals.wav"], "", "no songs in it, but one level deeper: name {}/hq"),
        (["musdb/test/a.stem.mp4"], "", "no songs in it, but one level deeper: name {}/musdb"),
        (["flat/A/vocals.wav"], "", "no songs in it, but one level deeper: name {}/flat"),
        (["x/flat/A/vocals.wav"], "", "no songs in it, but two levels deeper: name {}/x/flat"),
        (["x/hq/train/A/vocals.wav"], "", "two levels deeper: name {}/x/hq"),
        (["x/hq/Train/A/vocals.wav"], "x", "one level deeper: name {}/x/hq"),
        (["Train/A/vocals.wav"], "", "corpus.root={}: Train/ would be left out: rename it to tr"),
        (["TEST/a.stem.mp4"], "", "{}: TEST/ would be left out: rename it to test/"),
        ([*TRAIN, "Test/C/vocals.wav"], "", "{}: Test/ would be left out: rename it to test/"),
        (
            ["A/piano.wav", "B/piano.wav", "B/x.wav"],
            "",
            "corpus.root={}: no song has any of bass, drums, mixture, other, vocals, only piano, x "
            "(in {}/A): correct the stems, or name another folder",
        ),
        ([*TRAIN, "C/vocals.wav"], "", "C is beside train/ and test/: move it into one of them"),
        ([*TRAIN, "c.stem.mp4"], "", "c.stem.mp4 is beside train/ and test/"),
        (
            [*MANY, "c.stem.mp4"],
            "",
            "holds a .stem.mp4 file ({}/c.stem.mp4) and a folder ({}/A): keep one kind of song",
        ),
        ([*MANY, "A/Vocals.wav"], "", "{}/A: both Vocals.wav and vocals.wav: remove one"),
        ([*MANY, "A/vocals/1.wav"], "", "{}/A: both vocals.wav and vocals/: remove one"),
        (
            ["Caf\u00e9/vocals.wav", "Cafe\u0301/vocals.wav"],
            "",
            "track 'Caf\u00e9': two have this name",
        ),
        ([*MANY, "B/piano.wav"], "A", "a song or a part of one: name the folder of all songs, {}"),
        (
            [f"{song}/{stem}.wav" for song in "AB" for stem in (*STEMS, "piano")],
            "",
            "corpus.root={}: no song has a mixture, and the sum of the stems would lack piano (in "
            "{}/A): name it in the stems, or map it to one (corpus.mapping)",
        ),
    ],
)
def test_a_folder_that_is_not_meant(
    tmp_path: Path, places: list[str], root: str, message: str
) -> None:
    touch(tmp_path, *places)
    with pytest.raises(UserError) as caught:
        find_tracks(str(tmp_path / root), stems=STEMS)
    assert message.replace("{}", str(tmp_path)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"other": ["guitar", "vocals"]}, "other: vocals is in it and in vocals: keep one"),
        ({"other": ["guitar", "Guitar"]}, "other: Guitar is in it twice: keep one"),
        ({"other": []}, "other: no name, or an empty one"),
        ({"piano": ["guitar"]}, "piano: not one of the stems, vocals, other"),
        (
            {"other": ["guitar", "piano"]},
            "other: no song has piano, only guitar, other_keys, vocals: correct or remove it",
        ),
        ({"other": ["guitar"]}, "other_keys: songs have it, and no stem is mapped from it"),
    ],
)
def test_a_mapping_that_is_not_the_corpus(
    tmp_path: Path, mapping: dict[str, list[str]], message: str
) -> None:
    touch(tmp_path, "A/vocals.wav", "A/guitar.wav", "B/other_keys.wav", "B/vocals.wav")
    with pytest.raises(UserError) as caught:
        find_tracks(str(tmp_path), stems=TWO, mapping=mapping)
    assert str(caught.value).startswith(f"corpus.mapping: {message}")


@pytest.mark.parametrize("text", ["{", "[]", '{"stems": [{"stemName": "../x", "tracks": [{}]}]}'])
def test_a_damaged_list_of_moisesdb(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a/vocals/1.wav")
    (tmp_path / "a" / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"a/data.json: not MoisesDB's list of a song's stems"):
        find_tracks(str(tmp_path), stems=TWO)


# moisesdb/defaults.py, all_stems.
MOISES_STEMS = (
    "vocals", "bass", "drums", "other", "guitar", "other_plucked", "percussion", "piano",
    "other_keys", "bowed_strings", "wind",
)  # fmt: skip


def test_the_documented_params_map_all_stems_of_moisesdb(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(corpus:.*?)```", text, re.DOTALL)
    shown = YAML(typ="safe").load(example)["corpus"]
    known = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["corpus"]
    corpus = Corpus(**{**known, **shown})
    root = touch(tmp_path / "moisesdb_v0.1", *(f"uuid/{stem}/1.wav" for stem in MOISES_STEMS))
    (track,) = find_tracks(str(root), stems=corpus.stems, mapping=corpus.mapping)
    used = [Path(place).parent.name for stem in STEMS for place in track.files[stem]]
    assert sorted(used) == sorted(MOISES_STEMS)
    for stem in STEMS[:3]:
        assert [Path(place).parent.name for place in track.files[stem]] == [stem]
