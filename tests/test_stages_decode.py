"""Stages run one by one in an empty folder, with what users get wrong."""

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import read_manifest, read_rejects
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running import work
from stemforge.pipelines.running.feature_job import compute_features
from stemforge.pipelines.stages import corpus, decode
from tests.conftest import RATE_HZ, ROOT

Setup = Callable[..., None]


@pytest.fixture
def setup(in_tmp: Path) -> Setup:
    """Writes params.yaml with some values changed, named section.key."""

    def write(**changes: object) -> None:
        yaml = YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for name, value in changes.items():
            *section, key = name.split("__")
            (params[section[0]] if section else params)[key] = value
        yaml.dump(params, Path("params.yaml"))

    return write


def error(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a stage that must fail; returns its one line."""
    capsys.readouterr()
    assert run_main(main) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "stemforge: error: " in x)
    assert not Path("data/tracks.parquet").exists()
    return line


def test_no_such_folder(setup: Setup, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(corpus__root="nowhere")
    line = error(corpus.main, capsys)
    assert (
        f"corpus.root=nowhere: no such folder: a relative path starts at the checkout, {in_tmp}"
        in line
    )
    assert "corpus.root=nowhere: no such folder" in error(decode.main, capsys)
    setup(corpus__root="file:///nowhere")
    assert error(corpus.main, capsys).endswith("corpus.root=file:///nowhere: no such folder")


def test_no_tracks(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty/train").mkdir(parents=True)
    setup(corpus__root="empty")
    assert run_main(corpus.main) == 0
    assert "corpus.root=empty: no tracks" in error(decode.main, capsys)


def test_duplicate_names(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        Path("c", split, "Song").mkdir(parents=True)
        Path("c", split, "Song", "mixture.wav").touch()
    setup(corpus__root="c")
    assert "track 'Song': two have this name" in error(decode.main, capsys)


def bad_and_good(tiny_corpus: Path) -> None:
    shutil.copytree(tiny_corpus, "c")
    path = Path("c/train/Song 0.stem.mp4")
    path.write_bytes(path.read_bytes()[:5000])


def test_one_bad_track_among_good_ones_is_a_named_reject(
    setup: Setup, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_and_good(tiny_corpus)
    setup(corpus__root="c")
    assert run_main(decode.main) == 0
    printed = capsys.readouterr().err
    assert "decode: rejected Song 0: decode_error: " in printed
    assert "decode: 1 of 4 tracks rejected (1 decode_error)" in printed
    (reject,) = read_rejects(Path("data/track_rejects.parquet"))
    assert (reject.track, reject.block, reject.reason) == ("Song 0", None, "decode_error")
    manifest = read_manifest(Path("data/tracks.parquet"))
    assert sorted(track.name for track in manifest.tracks) == ["Song 1", "Song 2", "Song 9"]
    assert {track.split for track in manifest.tracks} == {"train", "valid", "test"}
    for track in manifest.tracks:
        assert soundfile.info(manifest.path(track, "vocals")).frames == track.samples


def test_strict_makes_it_an_error(
    setup: Setup, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_and_good(tiny_corpus)
    setup(corpus__root="c", decode__strict=True)
    line = error(decode.main, capsys)
    assert "decode.strict=true: 1 of 4 tracks rejected (1 decode_error)" in line


def test_nothing_but_bad_tracks(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("c/train/Song")
    folder.mkdir(parents=True)
    for name in ("mixture", "vocals", "drums", "bass", "other"):
        soundfile.write(folder / f"{name}.wav", np.zeros((100, 2)), 48000)
    setup(corpus__root="c")
    line = error(decode.main, capsys)
    assert "1 of 1 tracks rejected (1 sample_rate)" in line
    assert "48000 Hz" in line


def test_a_disk_that_is_nearly_full(
    setup: Setup,
    tiny_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup(corpus__root=str(tiny_corpus))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "stemforge.pipelines.running.work.shutil.disk_usage",
        lambda path: usage(10**9, 10**9, 10**6),
    )
    line = error(decode.main, capsys)
    # 3 songs of 4 s and one of 3 s, 5 streams, stereo, 16 bits: 13.2 MB.
    assert "data/decoded: decoding needs 0.01 GB and 0.00 GB is free" in line


def test_hq_corpora_are_not_copied(setup: Setup) -> None:
    for number, split in enumerate(("train", "train", "test")):
        folder = Path("hq", split, f"Song {number}")
        folder.mkdir(parents=True)
        for name in ("mixture", "vocals", "drums", "bass", "other"):
            soundfile.write(folder / f"{name}.wav", np.full((RATE_HZ, 2), 0.1), RATE_HZ)
    setup(corpus__root="hq")
    assert run_main(decode.main) == 0
    manifest = read_manifest(Path("data/tracks.parquet"))
    assert manifest.audio_root == Path("hq")
    assert manifest.path(manifest.tracks[0], "bass").is_file()
    assert [path.name for path in Path("data/decoded").iterdir()] == ["README.txt"]


def remote_and_local(setup: Setup, songs: Path, **params: object) -> None:
    """Decodes a corpus by its path and by a URL, and makes features of both."""
    for folder, root in (("local", str(songs)), ("remote", f"{songs.as_uri()}/")):
        Path(folder).mkdir()
        with contextlib.chdir(folder):
            setup(corpus__root=root, features__bins=64, features__shards=2, **params)
            assert run_main(corpus.main) == 0
            assert run_main(decode.main) == 0
            assert run_main(compute_features) == 0


def contents(folder: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(f"{folder}/{name}") for name in storage.list_files(folder)}


def test_of_a_remote_corpus_only_the_test_split_is_decoded(
    setup: Setup, tiny_corpus: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = Path(shutil.copytree(tiny_corpus, in_tmp / "songs"))
    remote_and_local(setup, songs)
    wavs = contents("local/data/decoded")
    found = contents("remote/data/decoded")
    assert b"file://" in found.pop("README.txt")
    assert found == {name: wav for name, wav in wavs.items() if name.startswith("test/")}
    assert len(found) == 5
    manifest = read_manifest(Path("remote/data/tracks.parquet"))
    assert manifest.corpus == songs.as_uri()
    assert {t.source("bass").path for t in manifest.tracks} == {
        "test/Song 9/bass.wav", *(f"train/Song {n}.stem.mp4" for n in range(3)),
    }  # fmt: skip
    assert contents("remote/data/features") == contents("local/data/features")
    # A file that has changed since is no longer what was measured.
    song = songs / "train" / f"{manifest.split('valid')[0].name}.stem.mp4"
    song.write_bytes(song.read_bytes() + b"\0")
    with contextlib.chdir("remote"):
        assert run_main(compute_features) == 2
    assert "changed since stage decode: dvc repro decode" in capsys.readouterr().err


def test_of_a_remote_corpus_of_wav_files_only_the_test_split_is_copied(
    setup: Setup, in_tmp: Path, random: np.random.Generator
) -> None:
    for number, split in enumerate(("train", "train", "test")):
        folder = in_tmp / "hq" / split / f"Song {number}"
        folder.mkdir(parents=True)
        stems = 0.1 * random.standard_normal((2, 2 * RATE_HZ, 2))
        for name, waveform in zip(("vocals", "drums"), stems, strict=True):
            soundfile.write(folder / f"{name}.wav", waveform, RATE_HZ)
        soundfile.write(folder / "mixture.wav", stems.sum(axis=0), RATE_HZ)
    two = ["vocals", "drums"]
    remote_and_local(setup, in_tmp / "hq", corpus__stems=two, models=two)
    assert contents("remote/data/features") == contents("local/data/features")
    found = contents("remote/data/decoded")
    del found["README.txt"]
    assert found == {f"test/{name}": wav for name, wav in contents("hq/test").items()}
    manifest = read_manifest(Path("remote/data/tracks.parquet"))
    with contextlib.chdir("remote"):
        assert manifest.path(manifest.split("test")[0], "drums").is_file()


def test_sums_of_a_remote_corpus_are_refused(
    setup: Setup, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stem in ("vocals", "drums", "bass", "other"):
        Path("hq/train/Song").mkdir(parents=True, exist_ok=True)
        Path(f"hq/train/Song/{stem}.wav").touch()
    setup(corpus__root=(in_tmp / "hq").as_uri())
    assert "Song has stems or a mixture that are summed" in error(decode.main, capsys)


def test_songs_without_a_mixture_are_written(setup: Setup, random: np.random.Generator) -> None:
    stems = ("vocals", "drums", "bass", "other")
    songs = {f"Song {n}": random.integers(-6000, 6000, (4, RATE_HZ, 2)) for n in range(4)}
    for song, signals in songs.items():
        Path("flat", song).mkdir(parents=True)
        for stem, signal in zip(stems, signals, strict=True):
            soundfile.write(f"flat/{song}/{stem}.wav", signal.astype(np.int16), RATE_HZ)
    setup(corpus__root="flat", corpus__test_share=0.25)
    assert run_main(decode.main) == 0
    manifest = read_manifest(Path("data/tracks.parquet"))
    assert [track.split for track in manifest.tracks].count("test") == 1
    for track in manifest.tracks:
        mixture, _ = soundfile.read(manifest.path(track, "mixture"), dtype="int16")
        np.testing.assert_array_equal(mixture, songs[track.name].sum(axis=0))
        assert track.residual_db == -np.inf


def test_one_file_of_another_format_has_all_decoded(setup: Setup) -> None:
    Path("c").mkdir()
    for split, ending in (("train", "wav"), ("validation", "wav"), ("test", "flac")):
        for name in ("mix", "vocals", "drums"):
            soundfile.write(f"c/{split}-{name}.{ending}", np.full((RATE_HZ, 2), 0.25), RATE_HZ)
        row = ",".join(f"{split}-{name}.{ending}" for name in ("mix", "vocals", "drums"))
        Path(f"c/{split}.csv").write_text(f"mix_path,vocals_path,drums_path\n{row}\n")
    setup(
        corpus__root="c",
        corpus__train_csv="train.csv",
        corpus__validation_csv="validation.csv",
        corpus__test_csv="test.csv",
        corpus__stems=["vocals", "drums"],
        models=["vocals", "drums"],
    )
    assert run_main(decode.main) == 0
    manifest = read_manifest(Path("data/tracks.parquet"))
    assert manifest.audio_root == Path("data/decoded")
    assert len(manifest.tracks) == 3
    for track in manifest.tracks:
        decoded, _ = soundfile.read(manifest.path(track, "vocals"), always_2d=True)
        np.testing.assert_array_equal(decoded, np.full((RATE_HZ, 2), 0.25))


@pytest.mark.system
def test_a_stage_before_its_inputs(setup: Setup) -> None:
    setup()
    for stage, message in (
        ("features", "data/tracks.parquet: no such file: run `dvc repro`"),
        ("separate", "data/tracks.parquet: no such file: run `dvc repro`"),
        ("train", "data/features: no info.json in it"),
    ):
        arguments = ["--stem", "vocals"] if stage == "train" else []
        done = subprocess.run(
            [sys.executable, "-m", f"stemforge.pipelines.stages.{stage}", *arguments],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == f"stemforge: error: {done.stderr.partition('error: ')[2]}"
        assert message in done.stderr


@pytest.mark.system
def test_beam_without_googles_libraries_says_nothing_of_it(in_tmp: Path) -> None:
    script = (
        "import sys\nsys.modules['apitools'] = None\n"
        "from stemforge.pipelines.console import run_main\n"
        "from stemforge.pipelines.stages import features\n"
        "code = run_main(features.main)\n"
        "assert 'apache_beam' in sys.modules\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("stemforge: error: params.yaml: no such file")
    assert done.stderr.count("\n") == 1


def test_work_in_progress_is_found_again_and_stale_work_is_not(in_tmp: Path) -> None:
    def stop_midway() -> None:
        with work.work_folder("stage", {"a": 1}) as folder:
            (folder / "part").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_midway()
    with work.work_folder("stage", {"a": 1}) as folder:
        assert (folder / "part").exists()
        with (
            pytest.raises(UserError, match=r"another process \(\d+\) is running this stage"),
            work.work_folder("stage", {"a": 1}),
        ):
            pass
    with work.work_folder("stage", {"a": 2}) as other:
        assert not (other / "part").exists()
        assert not folder.exists()
        (other / "result").mkdir()
        (other / "result" / "new").touch()
        (other / "result" / ".new.123.tmp").touch()  # of a process that was killed
        (other / "result" / ".parts-x.tmp" / "deep").mkdir(parents=True)
        Path("out").mkdir()
        Path("out/old").touch()
        work.publish(other / "result", Path("out"))
    assert [path.name for path in Path("out").iterdir()] == ["new"]


def test_stage_corpus_names_a_package_that_a_later_stage_lacks(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("tensorflow-cpu", "jinja2"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.21" if name == "tensorflow" else known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert run_main(corpus.main) == 2
    line = capsys.readouterr().err
    # Not tensorflow-cpu: the build for GPUs does as well.
    assert line == ("stemforge: error: jinja2 is not installed: pip install 'stemforge[repro]'\n")
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    monkeypatch.delitem(sys.modules, "stemforge.pipelines.running.extras")
    assert run_main(corpus.main) == 2
    assert "dvc repro needs packaging, which is not installed" in capsys.readouterr().err
