"""Stage copies, and what features and training make of its copies."""

import contextlib
import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Manifest, read_manifest, write_manifest
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.console import run_main
from stemforge.pipelines.paths import COPIES, COPY_TRACKS, TRACKS
from stemforge.pipelines.running.feature_job import compute_features
from stemforge.pipelines.stages import copies
from stemforge.train.augmentation import Mixer
from stemforge.train.config import Augmentation
from stemforge.train.sampler import Sampler
from tests.factories import STEMS, compute_project, make_project, set_params


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of all files, by their place in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """The tiny corpus, decoded, with two copies a song to make. Read only."""
    root = make_project(tmp_path_factory.mktemp("copies") / "decoded", tiny_corpus)
    set_params(root, copies__per_song=2)
    return root


def again(decoded: Path, root: Path) -> Path:
    """A project of its own with the same decoded songs."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_bytes((decoded / "params.yaml").read_bytes())
    for name in ("decoded", "tracks.parquet", "track_rejects.parquet"):
        (root / "data" / name).symlink_to(decoded / "data" / name)
    return root


@pytest.fixture(scope="module")
def project(decoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its copies, and features of all. Read only."""
    root = again(decoded, tmp_path_factory.mktemp("copied") / "project")
    with contextlib.chdir(root):
        assert run_main(copies.main) == 0
    return compute_project(root)


def test_each_training_song_has_its_copies(project: Path) -> None:
    songs = read_manifest(project / TRACKS)
    found = read_manifest(project / COPY_TRACKS)
    train = [track.name for track in songs.split("train")]
    assert (found.audio_root, found.stems, len(train)) == (COPIES, songs.stems, 2)
    assert [(track.name, track.split) for track in found.tracks] == [
        (f"{name}/copy {number}", "train") for name in train for number in (1, 2)
    ]
    assert len({track.samples for track in found.tracks}) == 4  # each has its own tempo
    files = {f"{track.name}/{name}.wav" for track in found.tracks for name in ("mixture", *STEMS)}
    assert hashes(project / COPIES).keys() == {"tracks.parquet", *(f"train/{f}" for f in files)}
    assert not [*(project / ".work" / "copies").glob("*/copies")]


def test_the_same_bytes_again(project: Path, decoded: Path, tmp_path: Path) -> None:
    with contextlib.chdir(again(decoded, tmp_path / "again")):
        assert run_main(copies.main) == 0
        assert hashes(COPIES) == hashes(project / COPIES)


def test_copies_are_more_training_songs_of_the_features(project: Path) -> None:
    features = FeatureSet.open(str(project / "data" / "features"))
    songs = read_manifest(project / TRACKS)
    copied = read_manifest(project / COPY_TRACKS)
    names = {track.name for track in (*songs.split("train"), *copied.tracks)}
    assert {run.track for run in features.reader("train").runs} == names
    assert {run.track for run in features.reader("valid").runs} == {
        track.name for track in songs.split("valid")
    }
    # A copy's magnitudes are those of its own files, by hand.
    run = next(run for run in features.reader("train").runs if run.track == copied.tracks[0].name)
    path = project / COPIES / "train" / run.track / "vocals.wav"
    values, _ = soundfile.read(path, start=run.first_frame * 1024, frames=4096, always_2d=True)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
    truth = np.abs(np.fft.rfft(values * window[:, None], axis=0))[:64]
    found = features.reader("train").read("vocals", run, 0, 1)[0]
    np.testing.assert_allclose(found, truth, atol=0.01 * truth.max())  # uint8


def test_a_copy_is_the_same_song_for_the_sampler(project: Path) -> None:
    runs = FeatureSet.open(str(project / "data" / "features")).reader("train").runs
    songs, frames = [run.song for run in runs], [run.frames for run in runs]
    sampler = Sampler(songs, frames, window_frames=16, sampling="songs", seed=1)
    assert sampler.songs == 2
    drawn = [runs[sampler.draw(number).run] for number in range(200)]
    assert [run.song for run in drawn].count(songs[0]) == 100
    assert len({run.track for run in drawn}) == 6  # with the copies
    mixer = Mixer(Augmentation((0.0, 0.0), 0.0, 0.0, 1.0), 1, sampler, runs, STEMS, "vocals")
    for number in range(200):
        window = sampler.draw(number)
        takes = mixer.takes(number, 0, (runs[window.run], window.start))
        assert takes["drums"].place[0].song != takes["vocals"].place[0].song
    alone = [run for run in runs if run.song == songs[0]]
    names, frames = [run.song for run in alone], [run.frames for run in alone]
    sampler = Sampler(names, frames, window_frames=16, sampling="windows", seed=1)
    with pytest.raises(UserError, match="the train split has one song with a window"):
        dataclasses.replace(mixer, sampler=sampler).check()


def test_training_hears_the_copies(project: Path, tmp_path: Path) -> None:
    from stemforge.pipelines.running.training import prepare, with_local_features

    root = again(project, tmp_path / "heard")
    for name in ("copies", "features"):
        (root / "data" / name).symlink_to(project / "data" / name)
    set_params(root, train__input="waveforms")
    with contextlib.chdir(root):
        task = prepare("vocals", None, chief=True)
        with with_local_features(task, remember=False) as ready:
            assert ready.sound is not None
            copy = read_manifest(COPY_TRACKS).tracks[0]
            path = COPIES / "train" / copy.name / "drums.wav"
            values, _ = soundfile.read(path, start=5000, frames=700, dtype="int16")
            heard = ready.sound.read(copy.name, "drums", 5000, 700)
    np.testing.assert_array_equal(heard, values / 2.0**15)


def test_no_copies_are_made_at_once(
    decoded: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = again(decoded, tmp_path / "none")
    set_params(root, copies__per_song=0)
    with contextlib.chdir(root):
        assert run_main(copies.main) == 0
        assert capsys.readouterr().err == ""
        assert hashes(COPIES).keys() == {"tracks.parquet"}
        found = read_manifest(COPY_TRACKS)
    assert (found.stems, found.tracks) == (STEMS, ())


def refuse(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a stage that ends with exit code 2 and writes nothing."""
    with contextlib.chdir(root):
        assert run_main(copies.main) == 2
        assert not COPIES.exists()
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error: " in x]
    return line


def test_bad_input_is_one_line(
    decoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root = again(decoded, tmp_path / "bad")
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", "--runner=PortableRunner --job_endpoint=h:1")
    assert "STEMFORGE_BEAM_ARGS: workers on other machines are not supp" in refuse(root, capsys)
    monkeypatch.delenv("STEMFORGE_BEAM_ARGS")
    set_params(root, copies__tempo=[0.0, 1.0])
    assert "params.yaml: copies: tempo=[0, 1]: must be from 0.75 to 1.33" in refuse(root, capsys)
    set_params(root, copies__tempo=[0.9, 1.1])
    (root / "data" / "decoded").unlink()
    assert re.search("Song .*wav: .*", refuse(root, capsys))
    # Another file than at decoding, which a worker finds.
    shutil.copytree(decoded / "data" / "decoded", root / "data" / "decoded")
    last = read_manifest(root / TRACKS).split("train")[-1]
    drums = root / "data" / "decoded" / last.source("drums").path
    soundfile.write(drums, np.zeros((50_000, 2)), 44100)
    assert f"drums.wav: 50000 samples at 44100 Hz, but {last.samples} at" in refuse(root, capsys)
    shutil.copy(decoded / "data" / "decoded" / last.source("drums").path, drums)
    with contextlib.chdir(root):
        assert run_main(copies.main) == 0
    assert len(read_manifest(root / COPY_TRACKS).tracks) == 4


def test_features_refuse_copies_that_are_missing_or_of_other_songs(
    decoded: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = again(decoded, tmp_path / "missing")
    with contextlib.chdir(root):
        assert run_main(compute_features) == 2
        assert f"{COPY_TRACKS}: no such file: run `dvc repro`" in capsys.readouterr().err
        assert run_main(lambda: compute_features(corpus="nowhere")) == 2
        assert "--corpus with copies.per_song=2: the job decodes" in capsys.readouterr().err
        (root / COPIES).symlink_to(project / COPIES)
        set_params(root, copies__per_song=3)
        assert run_main(compute_features) == 2
        message = (
            f"{COPY_TRACKS}: 2 copies of a song, but copies.per_song=3: run `dvc repro copies`"
        )
        assert message in capsys.readouterr().err
        set_params(root, copies__per_song=2)
        manifest = read_manifest(TRACKS)
        first = manifest.split("train")[0]
        fewer = tuple(track for track in manifest.tracks if track != first)
        (root / TRACKS).unlink()
        write_manifest(TRACKS, Manifest(manifest.audio_root, STEMS, fewer))
        assert run_main(compute_features) == 2
        assert "of other songs or stems than" in capsys.readouterr().err
