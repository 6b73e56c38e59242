"""The feature job: what it writes, what it rejects, and how it fails."""

import dataclasses
import errno
import hashlib
import json
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tensorflow as tf

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.ffmpeg import AudioError
from stemforge.features.corpus.corpora import find_tracks, hold_out_valid
from stemforge.features.corpus.manifest import Manifest, Reject, Track, copy_name, read_rejects
from stemforge.features.corpus.track_audio import CorpusAudio, DecodedAudio
from stemforge.features.shards import writing as shards
from stemforge.features.shards.beam import (
    FEATURE_SPLITS,
    MeasureTrack,
    Progress,
    WriteFeatures,
    plan_shards,
)
from stemforge.features.shards.examples import frame_record
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.records import RecordFile
from stemforge.features.shards.validity import Thresholds
from stemforge.features.shards.verification import differences, find_damage
from stemforge.features.shards.workers import launching
from stemforge.features.shards.writing import FeatureConfig, Shard, write_shard
from stemforge.pipelines.running.beam import pipeline_options, run_pipeline
from stemforge.pipelines.running.beam_jobs import counters
from tests.conftest import RATE_HZ
from tests.factories import CONFIG, STEMS, compute, make_manifest

LENIENT = dataclasses.replace(
    CONFIG, thresholds=dataclasses.replace(CONFIG.thresholds, max_clipped_ratio=1.0)
)


@pytest.fixture(scope="module")
def manifest(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    manifest = make_manifest(tiny_corpus, tmp_path_factory.mktemp("decoded"), subtype="FLOAT")
    # A stretch of silence in the mixture of one training song: blocks 1 and 2 of it.
    path = manifest.path(manifest.split("train")[0], "mixture")
    waveform, rate = soundfile.read(path, dtype="float32")
    waveform[32 * 1024 : 100 * 1024] = 0
    soundfile.write(path, waveform, rate, subtype="FLOAT")
    return manifest


def features_of(manifest: Manifest, root: Path, config: FeatureConfig = CONFIG) -> FeatureSet:
    audio = DecodedAudio(str(manifest.audio_root))
    return compute(manifest.tracks, audio, root, config=config)


@pytest.fixture(scope="module")
def features(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return features_of(manifest, tmp_path_factory.mktemp("features") / "f")


@pytest.fixture
def copied(manifest: Manifest, tmp_path: Path) -> Manifest:
    """A manifest whose audio a test may spoil."""
    shutil.copytree(manifest.audio_root, tmp_path / "wav")
    return dataclasses.replace(manifest, audio_root=tmp_path / "wav")


def true_spectrum(manifest: Manifest, track: Track, source: str) -> np.ndarray:
    waveform, _ = soundfile.read(manifest.path(track, source), dtype="float32")
    spectrum = tf.signal.stft(waveform.T, 4096, 1024).numpy()
    return np.moveaxis(spectrum[..., :64], 0, -1)


def test_kept_and_rejected_make_all_that_was_cut(manifest: Manifest, features: FeatureSet) -> None:
    rejects = read_rejects(Path(features.root) / "rejects.parquet")
    for split in FEATURE_SPLITS:
        part = features.info["splits"][split]
        frames = [1 + (t.samples - 4096) // 1024 for t in manifest.split(split)]
        assert part["blocks_cut"] == sum(-(-f // 32) for f in frames)
        assert part["blocks_kept"] + sum(part["blocks_rejected"].values()) == part["blocks_cut"]
    silenced = manifest.split("train")[0].name
    # Blocks 1 and 2 span frames 32 to 95 and so samples 32 * 1024 to (95 + 4) * 1024, all silent.
    assert [(r.track, r.split, r.block, r.reason, r.value) for r in rejects] == [
        (silenced, "train", 1, "silent_mixture", -np.inf),
        (silenced, "train", 2, "silent_mixture", -np.inf),
    ]


@pytest.mark.parametrize(("encoding", "rtol"), [("float32", 0), ("float16", 2.0**-11)])
def test_records_hold_tensorflows_own_stft(
    manifest: Manifest, tmp_path: Path, encoding: Any, rtol: float
) -> None:
    config = dataclasses.replace(CONFIG, encoding=encoding)
    reader = features_of(manifest, tmp_path / "f", config).reader("train")
    tracks = {track.name: track for track in manifest.tracks}
    silenced = manifest.split("train")[0].name
    seen = set()
    for run in reader.runs:
        start = 96 if run.track == silenced and run.track in seen else 0
        seen.add(run.track)
        for source in ("mixture", "vocals"):
            truth = np.abs(true_spectrum(manifest, tracks[run.track], source))
            found = reader.read(source, run, 0, run.frames)
            np.testing.assert_allclose(
                found, truth[start : start + run.frames], atol=1e-4, rtol=rtol
            )


def test_phases_are_tensorflows(manifest: Manifest, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, mixture_phase="int8")
    reader = features_of(manifest, tmp_path / "f", config).reader("valid")
    run = reader.runs[0]
    truth = true_spectrum(manifest, manifest.split("valid")[0], "mixture")
    phase = reader.read_phases([(run, 20)], 50)[0]  # frames 20 to 69, across three blocks
    loud = np.abs(truth[20:70]) > 1e-3  # what is nearly zero has no phase
    error = np.angle(np.exp(1j * (phase - np.angle(truth[20:70]))))[loud]
    assert np.abs(error).max() < np.pi / 256 + 1e-3


def test_a_rejected_block_splits_the_song_into_runs(features: FeatureSet) -> None:
    by_song: dict[str, list[int]] = {}
    for run in features.reader("train").runs:
        by_song.setdefault(run.track, []).append(run.frames)
    assert sorted(len(frames) for frames in by_song.values()) == [1, 2]
    assert 32 in next(frames for frames in by_song.values() if len(frames) == 2)


def test_copies_come_after_their_song_whatever_its_name(manifest: Manifest, tmp_path: Path) -> None:
    song = manifest.split("valid")[0]  # nothing of it is rejected
    names = ["A - B", copy_name("A", 1), copy_name("A - B", 1), "A"]  # " " comes before "/"
    tracks = [dataclasses.replace(song, name=name, split="train") for name in names]
    root = str(manifest.audio_root)
    found = compute([*tracks, song], DecodedAudio(root, root), tmp_path / "f")
    assert [run.track for run in found.reader("train").runs] == ["A", names[1], "A - B", names[2]]


@pytest.mark.parametrize("encoding", ["float32", "uint8"])
def test_windows_across_blocks_equal_the_whole(
    manifest: Manifest, tmp_path: Path, encoding: Any
) -> None:
    config = dataclasses.replace(CONFIG, encoding=encoding)
    reader = features_of(manifest, tmp_path / "f", config).reader("train")
    run = max(reader.runs, key=lambda run: run.frames)
    whole = reader.read("drums", run, 0, run.frames)
    for start, frames in ((0, 5), (20, 40), (31, 2), (31, 1), (30, 66), (run.frames - 3, 3)):
        window = reader.read("drums", run, start, frames)
        np.testing.assert_array_equal(window, whole[start : start + frames])
    assert [reader.blocks_per_window(n) for n in (1, 2, 33, 34, 65, 66)] == [1, 2, 2, 3, 3, 4]


def test_tensorflow_reads_the_files(features: FeatureSet) -> None:
    files = features.info["splits"]["train"]["files"]
    name, entry = next((n, e) for n, e in files.items() if "vocals" in n)
    path = Path(features.root) / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    records = list(tf.data.TFRecordDataset(str(path)))  # checks both checksums of each record
    index = pq.read_table(
        path.with_name(path.name.replace("vocals", "index")).with_suffix(".parquet")
    )
    rows = [row for row in index.to_pylist() if row["source"] == "vocals"]
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        example = tf.train.Example.FromString(record.numpy())
        assert example.features.feature["track"].bytes_list.value[0].decode() == row["track"]
        framed = path.read_bytes()[row["offset"] : row["offset"] + row["length"]]
        assert framed == frame_record(record.numpy())


def test_damage_is_named(manifest: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "f"
    (root / "train").mkdir(parents=True)
    (root / "train" / ".bass-00000-of-00002.tfrecord.1.tmp").touch()  # of an earlier, killed run
    features = features_of(manifest, root)
    assert list(find_damage(str(root), progress=lambda count: None)) == []
    path = next((root / "train").glob("mixture-*"))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    (root / "train" / ".stray.tmp").touch()
    (root / "train" / "._mixture").touch()  # of macOS: no damage
    name = f"train/{path.name}"
    assert list(find_damage(str(root), progress=lambda count: None)) == [
        f"{name}: its sha256 is not that of info.json",
        f"{name}: record at byte 0 is damaged",
        "train/.stray.tmp: not named in info.json",
    ]
    reader = FeatureSet.open(str(root)).reader("train")
    shard = int(path.name.split("-")[1])
    run = next(run for run in reader.runs if run.blocks[0] == (shard, 0))
    with pytest.raises(Exception, match=rf"{path.name}: record at byte 0 is damaged"):
        reader.read("mixture", run, 0, 1)
    path.write_bytes(data[:-1])
    with pytest.raises(Exception, match=f"{len(data) - 1} bytes instead of {len(data)}"):
        FeatureSet.open(str(root))
    info = Path(features.root) / "info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "version": 99}))
    with pytest.raises(Exception, match="version 99 is not 2"):
        FeatureSet.open(str(root))
    info.unlink()
    with pytest.raises(Exception, match=r"no info.json in it"):
        FeatureSet.open(str(root))


def test_differences_are_named(manifest: Manifest, features: FeatureSet, tmp_path: Path) -> None:
    same = features_of(manifest, tmp_path / "same")
    assert list(differences(features.root, same.root)) == []
    other = features_of(manifest, tmp_path / "other", dataclasses.replace(CONFIG, bins=32))
    found = list(differences(features.root, other.root))
    names = {line.split(":")[0] for line in found}
    assert "info.json" in names
    assert {name for name in names if "index" not in name} > {
        name for name in features.info["splits"]["valid"]["files"] if "index" not in name
    }


def test_an_empty_split_is_an_error(manifest: Manifest) -> None:
    strict = Thresholds(60.0, 0.0, -60.0, 0.05)
    with pytest.raises(Exception, match=r"no valid track in the train split .*too_short"):
        plan_shards(manifest.tracks, strict, CONFIG.framing, shards=2)
    with pytest.raises(Exception, match=r"no track in the valid split.*corpus.valid_share holds"):
        plan_shards(manifest.split("train"), CONFIG.thresholds, CONFIG.framing, shards=2)


def test_a_split_without_a_good_block_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    loud = dataclasses.replace(CONFIG, thresholds=Thresholds(1.0, 0.0, 20.0, 0.05))
    with pytest.raises(Exception, match=r"^every block of the train split was rejected: .*silent"):
        features_of(manifest, tmp_path / "f", loud)
    assert not (tmp_path / "f" / "info.json").exists()


def test_nan_in_a_float_wav_rejects_its_block_alone(copied: Manifest, tmp_path: Path) -> None:
    track = copied.split("valid")[0]
    waveform, _ = soundfile.read(copied.path(track, "drums"), dtype="float32")
    waveform[40 * 1024, 1] = np.nan  # under frames 37 to 40 of block 1 alone
    soundfile.write(copied.path(track, "drums"), waveform, RATE_HZ, subtype="FLOAT")
    features_of(copied, tmp_path / "f")
    rejects = [r for r in read_rejects(tmp_path / "f/rejects.parquet") if r.split == "valid"]
    assert [(r.track, r.block, r.reason, r.value) for r in rejects] == [
        (track.name, 1, "non_finite", 1.0)
    ]


def spoil(manifest: Manifest, track: Track) -> None:
    """Cuts a stem to half its length behind the manifest's back."""
    path = manifest.path(track, "vocals")
    waveform, _ = soundfile.read(path, dtype="float32")
    soundfile.write(path, waveform[: len(waveform) // 2], RATE_HZ, subtype="FLOAT")


def test_a_track_that_fails_midway_leaves_nothing_behind(copied: Manifest, tmp_path: Path) -> None:
    track = copied.split("train")[1]
    others = tuple(t for t in copied.tracks if t.name != track.name)
    good = features_of(dataclasses.replace(copied, tracks=others), tmp_path / "good")
    spoil(copied, track)
    lenient = dataclasses.replace(CONFIG, max_failed_tracks_ratio=0.5)
    # In one shard, so that blocks of the failing song lie in the middle of a file.
    for name, tracks in (("one", others), ("other", copied.tracks)):
        chosen = tuple(t for t in tracks if t.split == "train")
        report = write_shard(
            Shard("train", 0, 1, chosen), DecodedAudio(str(copied.audio_root)), lenient,
            str(tmp_path / name),
        )  # fmt: skip
    failed = [r for r in report.rejects if r.block is None]
    assert [(r.track, r.reason) for r in failed] == [(track.name, "decode_error")]
    assert "vocals ends at 2.0" in failed[0].detail
    for path in (tmp_path / "one" / "train").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / "train" / path.name).read_bytes()
    features = features_of(copied, tmp_path / "all", lenient)
    part = features.info["splits"]["train"]
    assert part["tracks_rejected"] == {"decode_error": 1}
    assert part["blocks_cut"] == good.info["splits"]["train"]["blocks_cut"]


def test_too_many_failed_tracks_fail_the_job(copied: Manifest, tmp_path: Path) -> None:
    spoil(copied, copied.split("train")[1])
    with pytest.raises(Exception, match="1 of 2 tracks of the train split failed, more than"):
        features_of(copied, tmp_path / "f")
    assert not (tmp_path / "f" / "info.json").exists()


def test_an_exception_is_a_reject_with_its_traceback(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(shards, "magnitude_stft", break_down)
    tracks = tuple(manifest.split("valid"))
    report = write_shard(
        Shard("valid", 0, 1, tracks), DecodedAudio(str(manifest.audio_root)), CONFIG,
        str(tmp_path / "f"),
    )  # fmt: skip
    (reject,) = report.rejects
    assert (reject.reason, reject.block, report.cut) == ("failed", None, 0)
    assert reject.detail.startswith("ZeroDivisionError: a bug (")
    assert "writing.py:" in reject.detail
    assert "break_down" in reject.detail
    assert str(tmp_path) not in reject.detail


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The system refuses to write beyond a size, as a full disk does (EFBIG)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_midway_ends_the_job_and_leaves_no_shard(
    manifest: Manifest, tmp_path: Path
) -> None:
    root = tmp_path / "f"
    with file_size_limit(30_000), pytest.raises(Exception, match="File too large"):
        features_of(manifest, root)
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_a_full_disk_while_closing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"), RecordFile(tmp_path / "a") as file:
        file.commit()
    assert list(tmp_path.iterdir()) == []


def test_counters_tell_every_reason(manifest: Manifest, tmp_path: Path) -> None:
    pipeline = beam.Pipeline(options=pipeline_options([]))
    audio = DecodedAudio(str(manifest.audio_root))
    with launching(str(tmp_path), decodes=False) as launcher:
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / ".bass.1.tmp").touch()  # of a worker that was killed in this run
        write = WriteFeatures(audio, CONFIG, launcher, shards=2, progress=Progress(None))
        _ = pipeline | beam.Create(manifest.tracks) | write
        found = counters(pipeline.run())
    assert list(find_damage(str(tmp_path), progress=lambda count: None)) == []
    info = FeatureSet.open(str(tmp_path)).info["splits"]
    kept = info["train"]["blocks_kept"] + info["valid"]["blocks_kept"]
    assert (found["kept"], found["silent_mixture"], found["tracks"]) == (kept, 2, 3)
    assert found["audio_s"] == 3 * 4


def test_times_of_each_track_are_told(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = hold_out_valid(
        find_tracks(str(tiny_corpus), stems=STEMS), share=0.3, official=["none"]
    )
    songs = [track for track in corpus if track.split in FEATURE_SPLITS]
    audio = CorpusAudio({song.name: song for song in songs}, "PCM_16")
    pipeline = beam.Pipeline(options=pipeline_options([]))
    with launching(str(tmp_path), decodes=True) as launcher:
        measure = MeasureTrack(str(tiny_corpus), "PCM_16", launcher)
        write = WriteFeatures(audio, LENIENT, launcher, shards=1, progress=Progress(None))
        _ = pipeline | beam.Create(songs) | beam.ParDo(measure) | write
        started_s = time.monotonic()
        result = pipeline.run()
        passed_ms = 1000 * (time.monotonic() - started_s)
    found = {
        entry.key.metric.name: entry.result for entry in result.metrics().query()["distributions"]
    }
    assert {name: times.count for name, times in found.items()} == {
        "measure_ms": 3, "decode_ms": 3, "transform_ms": 3,
    }  # fmt: skip
    # One after the other, so that together they take no longer than all; ffmpeg's start takes 1 ms.
    assert sum(times.sum for times in found.values()) <= passed_ms
    assert min(found["measure_ms"].min, found["decode_ms"].min) >= 1


def test_a_run_whose_place_another_takes_ends_without_an_info_json(
    manifest: Manifest, tmp_path: Path
) -> None:
    def taken(track: Track) -> Track:
        (tmp_path / ".run").write_text("run 2")
        return track

    pipeline = beam.Pipeline(options=pipeline_options([]))
    with launching(str(tmp_path), decodes=False) as launcher:
        audio = DecodedAudio(str(manifest.audio_root))
        write = WriteFeatures(audio, CONFIG, launcher, shards=1, progress=Progress(None))
        _ = pipeline | beam.Create(manifest.tracks) | beam.Map(taken) | write
        with pytest.raises(UserError, match=r"^[^ ]*: run 2 writes features here too: this run"):
            run_pipeline(pipeline, watch=lambda counters: None)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".run"]  # the other's


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ZeroDivisionError("a bug"), "failed"), (AudioError("x.wav: cut"), "decode_error")],
)
def test_a_track_that_cannot_be_measured_is_a_reject_as_one_that_cannot_be_written(
    manifest: Manifest, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Exception, reason: str,
) -> None:  # fmt: skip
    def break_down(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stemforge.features.shards.beam.decode_track", break_down)
    monkeypatch.setattr(shards, "magnitude_stft", break_down)
    with launching(str(tmp_path), decodes=False) as launcher:
        song = find_tracks(str(tiny_corpus), stems=STEMS)[0]
        (measured,) = MeasureTrack(str(tiny_corpus), "PCM_16", launcher).process(song)
    track = manifest.split("valid")[0]
    written = write_shard(
        Shard("valid", 0, 1, (track,)), DecodedAudio(str(manifest.audio_root)), CONFIG,
        str(tmp_path / "f"),
    ).rejects[0]  # fmt: skip
    assert isinstance(measured, Reject)
    for reject in (measured, written):
        assert reject.reason == reason
        assert str(error) in reject.detail
    assert (measured.track, measured.split) == (song.name, song.split)


def test_a_bucket_that_fails_ends_the_writing(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("gs://b/x: cannot be read: 503")

    monkeypatch.setattr(storage, "local_copy", fail)
    shard = Shard("valid", 0, 1, tuple(manifest.split("valid")))
    with pytest.raises(UserError, match="503"):
        write_shard(shard, DecodedAudio(str(manifest.audio_root)), CONFIG, str(tmp_path / "f"))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), UserError("gs://b/x: cannot be read: 503")],
)
def test_a_full_disk_or_a_bucket_that_fails_ends_the_measuring(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stemforge.features.shards.beam.decode_track", full)
    song = find_tracks(str(tiny_corpus), stems=STEMS)[0]
    with (
        launching(str(tmp_path), decodes=False) as launcher,
        pytest.raises(type(error), match=r"No space left|503"),
    ):
        list(MeasureTrack(str(tiny_corpus), "PCM_16", launcher).process(song))


def test_a_runner_that_loses_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", "--runner=apache_beam.runners.dask.DaskRunner")
    with pytest.raises(Exception, match="DaskRunner drops data"):
        pipeline_options([])


def test_rejects_of_the_decoding_are_in_the_account(manifest: Manifest, tmp_path: Path) -> None:
    reject = Reject("Lost", "train", None, "missing_stem", None, "no such file")
    elsewhere = Reject("Test", "test", None, "decode_error", None, "broken")
    audio = DecodedAudio(str(manifest.audio_root))
    features = compute((*manifest.tracks, reject, elsewhere), audio, tmp_path / "f")
    part = features.info["splits"]["train"]
    assert (part["tracks"], part["tracks_rejected"]) == (3, {"missing_stem": 1})
    found = read_rejects(tmp_path / "f" / "rejects.parquet")
    assert reject in found
    assert elsewhere not in found
