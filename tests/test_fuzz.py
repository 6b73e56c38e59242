"""A few hundred damaged files for each reader; tests/system/test_fuzz.py takes minutes for each."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from stemforge.eval.runtimes.litert import with_interface
from stemforge.eval.scoring.scores import MUSEVAL, Remark, TrackScores, to_json
from stemforge.features.corpus.manifest import (
    Manifest,
    Reject,
    Source,
    Track,
    write_manifest,
    write_rejects,
)
from stemforge.features.shards.encoding import encode
from stemforge.features.shards.examples import make_example
from stemforge.features.shards.records import INFO, RecordFile, index_name, shard_name, write_index
from stemforge.train.model_files import Interface
from tests.conftest import RATE_HZ, ROOT
from tests.fuzzing import READERS, _too_long, fuzz
from tests.test_running_musdb18_7 import packed, songs
from tests.test_spleeter_checkpoints import JSON

INTERFACE = Interface(("a", "b"), 64, 64, 4096, 1024, RATE_HZ)
QUICK = {
    "checkpoint": 40,
    "song": 20,
    "params": 30,
    "spleeter.json": 60,
    "shards": 150,
    "corpus": 100,
}
OTHERS = 300


def write_card(folder: Path) -> None:
    net = {"kind": "unet", "frames": 64, "bins": 64, "width": 2, "depth": 4, "norm": "affine",
           "dropout": 0.0, "encoder_activation": "elu", "decoder_activation": "elu",
           "head": "softmax", "input_scale": "log"}  # fmt: skip
    card = {"version": 4, "stems": ["a", "b"], "net": net, "provenance": {"step": 3},
            "frame_length_samples": 4096, "frame_step_samples": 1024,
            "sample_rate_hz": RATE_HZ}  # fmt: skip
    (folder / "model.json").write_text(json.dumps(card))


def write_weights(folder: Path) -> None:
    random = np.random.default_rng(1)
    values = {f"encoder_{n}/kernel": random.normal(size=(5, n)) for n in range(4)}
    np.savez(
        folder / "weights.npz",
        allow_pickle=False,
        **{k: v.astype(np.float32) for k, v in values.items()},
    )


def write_params(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)


def write_csv(folder: Path) -> None:
    rows = [f'"Söng {n}/mix, 1.wav",Song {n}/a.wav,Song {n}/b.wav,{n}.5' for n in range(5)]
    text = "\n".join(["mix_path,a_path,b_path,duration", *rows])
    (folder / "train.csv").write_text(text, encoding="utf-8")


def write_scores(folder: Path) -> None:
    frames = {metric: [1.5, float("nan")] for metric in ("SDR", "SIR", "ISR", "SAR")}
    found = TrackScores(
        "song",
        {"a": frames, "b": frames},
        {"a": {"uSDR": 1.0, "SI_SDR": 2.0, "PES": 3.0}},
        (Remark("b", "mono", "one channel"),),
    )
    (folder / "song.json").write_text(to_json(found, scoring=MUSEVAL, inputs="x"))


def write_spleeter_json(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(JSON))


def write_checkpoint(folder: Path) -> None:
    names = [f"conv2d_transpose_{n}/{part}" for n in range(12) for part in ("kernel", "bias")]
    values = [np.full((2, 3), n, np.float32) for n, _ in enumerate(names)]
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model"), tensor_names=names, shape_and_slices=[""] * len(names),
        tensors=values,
    )  # fmt: skip
    (folder / "checkpoint").write_text('model_checkpoint_path: "model"\n')


def write_shards(folder: Path) -> None:
    """A song of two blocks in uint8, and its phases."""
    random = np.random.default_rng(1)
    sources, files, rows = ("mixture", "a", "b", "mixture_phase"), {}, []
    (folder / "train").mkdir()
    for source in sources:
        name = shard_name("train", source, 0, 1)
        with RecordFile(folder / name) as file:
            for block in range(2):
                place = {"track": "Söng", "block": block, "start_frame": 8 * block, "frames": 8}
                magnitudes = random.uniform(0, 9, (8, 4, 2)).astype(np.float32)
                encoded = encode(magnitudes, "uint8")
                fields = {"values": encoded.values.tobytes(), "scale": encoded.scale.tobytes()}
                if source == "mixture_phase":
                    del fields["scale"]
                data = make_example({**place, "track": b"S\xc3\xb6ng", **fields})  # type: ignore[dict-item]
                offset, length = file.write(data)
                rows.append({**place, "source": source, "offset": offset, "length": length})
            files[name] = file.commit()
    name = index_name("train", 0, 1)
    files[name] = write_index(folder / name, rows)
    train = {"tracks": 1, "tracks_rejected": {}, "shards": 1, "blocks_cut": 2, "blocks_kept": 2,
             "frames_kept": 16, "blocks_rejected": {}, "files": files}  # fmt: skip
    info = {"version": 2, "sample_rate_hz": RATE_HZ, "bins": 4, "block_frames": 8,
            "framing": {"length_samples": 4096, "step_samples": 1024}, "encoding": "uint8",
            "mixture_phase": "int8", "stems": ["a", "b"], "splits": {"train": train}}  # fmt: skip
    (folder / INFO).write_text(json.dumps(info))


def write_tflite(folder: Path) -> None:
    """Without a graph: no more than what the reader of the metadata reads."""
    model = schema.ModelT()
    model.buffers, model.subgraphs, model.operatorCodes = [schema.BufferT()], [], []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    (folder / "model.tflite").write_bytes(with_interface(bytes(builder.Output()), INTERFACE))


def write_tables(folder: Path) -> None:
    sources = tuple(
        Source(name, f"train/Song/{name}.wav", "PCM_16", 0.5, 0.1, 0, "0" * 64, "1" * 64)
        for name in ("mixture", "a", "b")
    )
    tracks = tuple(
        Track(f"Söng {n}", "train", 9000, RATE_HZ, 0.2, -30.0, "7.1", sources) for n in range(3)
    )
    write_manifest(folder / "tracks.parquet", Manifest(Path("data"), ("a", "b"), tracks))
    rejects = [Reject("Song", "test", None, "decode_error", None, "cut")]
    write_rejects(folder / "track_rejects.parquet", rejects)


def write_song(folder: Path) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (500, 2))
    soundfile.write(folder / "song.wav", noise, RATE_HZ, "PCM_16")


def write_archive(folder: Path) -> None:
    (folder / "corpus.zip").write_bytes(packed(songs()))


VALID: dict[str, Callable[[Path], None]] = {
    "model.json": write_card,
    "weights": write_weights,
    "params": write_params,
    "csv": write_csv,
    "scores": write_scores,
    "spleeter.json": write_spleeter_json,
    "checkpoint": write_checkpoint,
    "shards": write_shards,
    "tflite": write_tflite,
    "manifest": write_tables,
    "song": write_song,
    "corpus": write_archive,
}


@pytest.fixture
def alarm() -> Iterator[None]:
    """What ends a reader that takes longer than LIMIT_S."""
    before = signal.signal(signal.SIGALRM, _too_long)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_one_line_or_valid(name: str, tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    VALID[name](tmp_path / "valid")
    cases = range(QUICK.get(name, OTHERS))
    assert fuzz(name, tmp_path / "valid", tmp_path / "case", cases=cases) == len(cases)
