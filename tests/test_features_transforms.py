import hashlib
import json
import struct
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tensorflow as tf

from features.corpora import find_tracks, hold_out_valid
from features.decoding import decode_track
from features.errors import UserError
from features.records import FeatureSet, frame_record, masked_crc
from features.shards import FeatureConfig
from features.stft import Framing
from features.tracks import Manifest, Track, read_rejects
from features.transforms import WriteFeatures, plan_shards
from features.validity import Thresholds
from pipelines.runners import pipeline_options

STEMS = ("vocals", "drums")
LIMITS = Thresholds(
    min_duration_s=1.0, max_residual_db=0.0, silence_db=-60.0, max_clipped_ratio=0.05
)
CONFIG = FeatureConfig(Framing(4096, 1024), 64, 32, "float32", LIMITS)


@pytest.fixture(scope="module")
def manifest(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("decoded")
    found = hold_out_valid(find_tracks(tiny_corpus, stems=STEMS), share=0.3, official=["x"])
    results = [decode_track(t, out, root=tiny_corpus, subtype="FLOAT") for t in found]
    tracks = tuple(t for t in results if isinstance(t, Track))
    # A stretch of silence in the mixture of one training song: blocks 1 and 2 of it.
    path = out / next(t for t in tracks if t.split == "train").source("mixture").path
    waveform, rate = soundfile.read(path, dtype="float32")
    waveform[32 * 1024 : 100 * 1024] = 0
    soundfile.write(path, waveform, rate, subtype="FLOAT")
    return Manifest(out, STEMS, tracks)


def compute(manifest: Manifest, root: Path, *, config: FeatureConfig = CONFIG) -> FeatureSet:
    root.mkdir()
    shards, rejects = plan_shards(manifest, config, shards=2)
    with beam.Pipeline(options=pipeline_options([])) as pipeline:
        _ = pipeline | beam.Create(shards) | WriteFeatures(manifest, config, root, rejects)
    return FeatureSet.open(root)


@pytest.fixture(scope="module")
def features(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return compute(manifest, tmp_path_factory.mktemp("features") / "f")


def true_magnitudes(manifest: Manifest, track: Track, source: str) -> np.ndarray:
    waveform, _ = soundfile.read(manifest.path(track, source), dtype="float32")
    spectrum = tf.signal.stft(waveform.T, 4096, 1024).numpy()
    return np.moveaxis(np.abs(spectrum[..., :64]), 0, -1)


def test_kept_and_rejected_make_all_that_was_cut(manifest: Manifest, features: FeatureSet) -> None:
    rejects = read_rejects(features.root / "rejects.parquet")
    for split in ("train", "valid"):
        part = features.info["splits"][split]
        frames = [1 + (t.samples - 4096) // 1024 for t in manifest.split(split)]  # type: ignore[arg-type]
        assert part["blocks_cut"] == sum(-(-f // 32) for f in frames)
        assert part["blocks_kept"] + sum(part["blocks_rejected"].values()) == part["blocks_cut"]
    silenced = next(t.name for t in manifest.tracks if t.split == "train")
    # Blocks 1 and 2 span frames 32 to 95 and so samples 32 * 1024 to (95 + 4) * 1024, all silent.
    assert [(r.track, r.block, r.reason, r.value) for r in rejects] == [
        (silenced, 1, "silent_mixture", -np.inf),
        (silenced, 2, "silent_mixture", -np.inf),
    ]


def test_records_hold_tensorflows_own_stft(manifest: Manifest, features: FeatureSet) -> None:
    reader = features.reader("train")
    tracks = {track.name: track for track in manifest.tracks}
    for run in reader.runs:
        start = 64 if run.blocks[0][1] and run.track == reader.runs[0].track else 0
        for source in ("mixture", "vocals"):
            truth = true_magnitudes(manifest, tracks[run.track], source)
            found = reader.read(source, run, 0, run.frames)
            offset = len(truth) - run.frames if start else 0
            np.testing.assert_allclose(found, truth[offset : offset + run.frames], atol=1e-4)


def test_a_rejected_block_splits_the_song_into_runs(features: FeatureSet) -> None:
    runs = features.reader("train").runs
    by_song: dict[str, list[int]] = {}
    for run in runs:
        by_song.setdefault(run.track, []).append(run.frames)
    assert sorted(len(frames) for frames in by_song.values()) == [1, 2]
    assert 32 in next(frames for frames in by_song.values() if len(frames) == 2)


def test_windows_across_blocks_equal_the_whole(features: FeatureSet) -> None:
    reader = features.reader("train")
    run = max(reader.runs, key=lambda run: run.frames)
    whole = reader.read("drums", run, 0, run.frames)
    for start, frames in ((0, 5), (20, 40), (31, 2), (run.frames - 3, 3)):
        window = reader.read("drums", run, start, frames)
        np.testing.assert_array_equal(window, whole[start : start + frames])


def test_tensorflow_reads_the_files(features: FeatureSet) -> None:
    name, entry = next(
        (n, e) for n, e in features.info["splits"]["train"]["files"].items() if "vocals" in n
    )
    path = features.root / name
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


def test_masked_crc_equals_tensorflows(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        writer.write(b"some bytes")
    framed = (tmp_path / "a").read_bytes()
    assert framed == frame_record(b"some bytes")
    assert struct.unpack("<I", framed[-4:])[0] == masked_crc(b"some bytes")


def test_the_same_input_gives_the_same_bytes(
    manifest: Manifest, features: FeatureSet, tmp_path: Path
) -> None:
    again = compute(manifest, tmp_path / "again")
    ours = sorted(p.relative_to(features.root) for p in features.root.rglob("*") if p.is_file())
    theirs = sorted(p.relative_to(again.root) for p in again.root.rglob("*") if p.is_file())
    assert ours == theirs
    for path in ours:
        assert (features.root / path).read_bytes() == (again.root / path).read_bytes(), path


def test_float16_is_within_its_rounding(manifest: Manifest, tmp_path: Path) -> None:
    config = FeatureConfig(CONFIG.framing, 64, 32, "float16", LIMITS)
    half = compute(manifest, tmp_path / "half", config=config)
    reader = half.reader("valid")
    track = manifest.split("valid")[0]
    truth = true_magnitudes(manifest, track, "mixture")
    found = reader.read("mixture", reader.runs[0], 0, reader.runs[0].frames)
    np.testing.assert_allclose(found, truth, rtol=2.0**-11, atol=1e-4)


def test_damage_is_named(manifest: Manifest, tmp_path: Path) -> None:
    features = compute(manifest, tmp_path / "f")
    path = next((tmp_path / "f" / "train").glob("mixture-*"))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    reader = FeatureSet.open(tmp_path / "f").reader("train")
    shard = int(path.name.split("-")[1])
    run = next(run for run in reader.runs if run.blocks[0] == (shard, 0))
    with pytest.raises(UserError, match=rf"{path.name}: record at byte 0 is damaged"):
        reader.read("mixture", run, 0, 1)
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=f"{len(data) - 1} bytes instead of {len(data)}"):
        FeatureSet.open(tmp_path / "f")
    info = features.root / "info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "version": 99}))
    with pytest.raises(UserError, match="version 99 is not 1"):
        FeatureSet.open(tmp_path / "f")
    info.unlink()
    with pytest.raises(UserError, match=r"no info.json in it"):
        FeatureSet.open(tmp_path / "f")


def test_an_empty_split_is_an_error(manifest: Manifest) -> None:
    strict = FeatureConfig(CONFIG.framing, 64, 32, "float32", Thresholds(60.0, 0.0, -60.0, 0.05))
    with pytest.raises(UserError, match=r"no valid track in the train split .*too_short"):
        plan_shards(manifest, strict, shards=2)


def test_a_runner_that_loses_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", "--runner=apache_beam.runners.dask.DaskRunner")
    with pytest.raises(UserError, match="DaskRunner drops data"):
        pipeline_options([])
