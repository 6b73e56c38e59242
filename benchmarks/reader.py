"""Throughput of the training reader against Spleeter's cached reading.

    python -m benchmarks.reader CORPUS_ROOT [--spleeter-python PYTHON | --without-spleeter]

In one run and from the same training songs: batches of 4 windows of 512 frames and 1024
bins, decoded to float32, (a) by our reader from uint8 features, mixture and four stems;
(b) the same of mixture and one stem; (c) by the same reader from the stems' WAV files, mixture
and one stem, without and with augmentation; (d) by Spleeter 2.4.2's training dataset from its
uint8 cache, mixture and four stems. Each with files in memory ("warm") and after the system
was told to drop them ("cold"). Crop-audio-seconds are those of the windows: 47.6 a batch.
Medians of the runs.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from benchmarks import common
from benchmarks.common import SPLEETER
from benchmarks.full_size import FRAMES
from benchmarks.spleeter_setup import drop
from stemforge.features.corpus.sources import STEMS
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.paths import DECODED
from stemforge.train.config import Augmentation
from stemforge.train.dataset import Dataset
from stemforge.train.waveforms import Sound

BATCH = 4
STATES = ("cold", "warm")
AUGMENTATION = Augmentation((-6.0, 6.0), 0.5, 0.5, 0.5)


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    common.add_spleeter(parser)
    parser.add_argument("--frames", type=int, default=FRAMES, help="a window's (%(default)s)")
    parser.add_argument("--batches", type=int, default=40, help="of a run (%(default)s)")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args(argv)
    tf.config.experimental.enable_op_determinism()  # as the trainer does
    with common.work_folder(arguments.work) as root, tempfile.TemporaryDirectory() as scratch:
        place = common.make_features(arguments.corpus, root)
        features = FeatureSet.open(str(place))
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.runs):
            for state in STATES:
                for name, dataset in our_datasets(root, features, arguments.frames).items():
                    if state == "cold":
                        drop(place)
                        drop(root / DECODED)
                    batches = dataset.training(
                        sampling="windows", seed=1, start_step=0, steps=arguments.batches + 1
                    )
                    seconds.setdefault((name, state), []).append(read(batches))
        if python := common.spleeter_python(arguments, Path(scratch) / "spleeter"):
            trained = {run.track for run in features.reader("train").runs}
            songs = [song for song in common.songs_of(root) if song.name in trained]
            sizes = (arguments.frames, arguments.batches, arguments.runs)
            csv, cache = common.write_csv(songs, root), Path(scratch) / "cache" / "c"
            cache.parent.mkdir()
            for line in common.spleeter_output(python, "reader", csv, cache, *sizes):
                state, _, value = line.partition(" ")
                if state in STATES:  # else Spleeter's own
                    key = f"{SPLEETER}, mixture and 4 stems", state
                    seconds.setdefault(key, []).append(float(value))
    report(seconds, arguments.batches * BATCH * arguments.frames * 1024 / common.RATE_HZ)


def report(seconds: dict[tuple[str, str], list[float]], audio_s: float) -> None:
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    peers = {state: value for (name, state), value in medians.items() if SPLEETER in name}
    rows = []
    for (name, state), value in medians.items():
        ratio = common.against(peers.get(state), value, digits=1)
        rows.append((f"{name}, {state}", f"{audio_s / value:.0f}", ratio))
    common.print_table((f"reader, {os.cpu_count()} cores", "crop-audio-s per s", "ratio"), rows)


def our_datasets(project: Path, features: FeatureSet, frames: int) -> dict[str, Dataset]:
    """What is read, by the name of its row."""
    sound, one = common.sound_of(project, features), STEMS[:1]
    kinds: dict[str, tuple[tuple[str, ...], Sound | None, Augmentation | None]] = {
        "stemforge, mixture and 4 of 4 stems": (STEMS, None, None),
        "stemforge, mixture and 1 of 4 stems": (one, None, None),
        "stemforge from waveforms, mixture and 1 of 4 stems": (one, sound, None),
        "stemforge from waveforms, augmented, mixture and 1 of 4 stems": (one, sound, AUGMENTATION),
    }
    return {
        name: Dataset(
            features,
            stems=stems,
            window_frames=frames,
            batch_size=BATCH,
            sound=files,
            augmentation=augmentation,
        )
        for name, (stems, files, augmentation) in kinds.items()
    }


def read(batches: Iterator[object]) -> float:
    """Seconds of all batches but the first, which starts threads and compiles."""
    next(batches)
    return common.timed(lambda: sum(1 for _ in batches))


if __name__ == "__main__":
    main()
