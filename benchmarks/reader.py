"""Throughput of the training reader against Spleeter's cached reading.

    python -m benchmarks.reader CORPUS_ROOT [--spleeter-python PYTHON]

In one run and from the same training songs: batches of 4 windows of 512 frames and 1024
bins, decoded to float32, (a) by our reader from uint8 features, mixture and four stems;
(b) the same of mixture and one stem; (c) by Spleeter 2.4.2's training dataset from its
uint8 cache, mixture and four stems. Each with files in memory ("warm") and after the system
was told to drop them ("cold"). Crop-audio-seconds are those of the windows: 47.6 a batch.
Medians of five runs of 40 batches.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stemforge.pipelines.tensorflow_quietly import tf  # isort: skip (before all that imports it)

from benchmarks.features import decode, environment, make_spleeter, write_csv
from benchmarks.spleeter_setup import drop
from stemforge.features.feature_set import FeatureSet
from stemforge.train.dataset import Dataset

ROOT = Path(__file__).resolve().parent.parent
STEMS = ("vocals", "drums", "bass", "other")
BATCH, FRAMES, BATCHES, RUNS = 4, 512, 40, 5
BATCH_S = BATCH * FRAMES * 1024 / 44100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    parser.add_argument("--spleeter-python", type=Path, help="of an environment with Spleeter")
    arguments = parser.parse_args()
    tf.config.experimental.enable_op_determinism()  # as the trainer does
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        project = root / "project"
        songs = decode(arguments.corpus.resolve(), project)
        command = [sys.executable, "-m", "stemforge.pipelines.compute_features"]
        subprocess.run(command, cwd=project, check=True)
        features = FeatureSet.open(str(project / "data" / "features"))
        trained = {run.track for run in features.reader("train").runs}
        csv = write_csv([song for song in songs if song.name in trained], root)
        spleeter = arguments.spleeter_python or make_spleeter(root / "spleeter")
        cache = root / "cache"
        cache.mkdir()
        rates: dict[str, list[float]] = {}
        for _ in range(RUNS):
            for state in ("cold", "warm"):
                for stems in (STEMS, STEMS[:1]):
                    if state == "cold":
                        drop(project / "data" / "features")
                    key = f"stemforge, mixture and {len(stems)} of 4 stems, {state}"
                    rates.setdefault(key, []).append(our_rate(features, stems))
        for state, found in spleeter_rates(spleeter, csv, cache).items():
            rates[f"Spleeter 2.4.2, mixture and 4 stems, {state}"] = found
    print(f"\n| reader, {os.cpu_count()} cores | crop-audio-s per s | ratio |\n| --- | --- | --- |")
    peer = {key.split()[-1]: statistics.median(found) for key, found in rates.items()}
    for key, found in rates.items():
        rate = statistics.median(found)
        print(f"| {key} | {rate:.0f} | {rate / peer[key.split()[-1]]:.1f}x |")


def our_rate(features: FeatureSet, stems: tuple[str, ...]) -> float:
    dataset = Dataset(features, stems=stems, window_frames=FRAMES, batch_size=BATCH)
    batches = dataset.training(sampling="windows", seed=1, start_step=0, steps=BATCHES + 1)
    return rate(batches)


def rate(batches: Iterator[object]) -> float:
    next(batches)  # starts threads and compiles
    started = time.perf_counter()
    found = sum(1 for _ in batches)
    return found * BATCH_S / (time.perf_counter() - started)


def spleeter_rates(python: Path, csv: Path, cache: Path) -> dict[str, list[float]]:
    """Crop-audio-seconds per second of Spleeter's epochs after the first, per state of files."""
    done = subprocess.run(
        [python, ROOT / "benchmarks" / "spleeter_reader.py", csv, cache / "c"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    found: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        state, _, seconds = line.partition(" ")
        if state not in ("cold", "warm"):
            continue  # Spleeter's own
        found.setdefault(state, []).append(BATCHES * BATCH_S / float(seconds))
    return found


if __name__ == "__main__":
    main()
