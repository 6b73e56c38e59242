"""Seconds that Spleeter's own training dataset takes for batches from its filled cache.

Runs in Spleeter's environment, not ours (benchmarks/reader.py calls it):

    python benchmarks/spleeter_reader.py TRAIN_CSV CACHE_FOLDER FRAMES BATCHES RUNS
"""

import sys
import time
from pathlib import Path
from typing import Any

from spleeter.audio.adapter import AudioAdapter
from spleeter.dataset import DatasetBuilder
from spleeter_setup import AUDIO, drop

CHUNKS_PER_SONG = 12
BATCH = 4


def main() -> None:
    csv, cache = Path(sys.argv[1]), Path(sys.argv[2])
    frames, count, runs = map(int, sys.argv[3:])
    audio = AUDIO | {"T": frames}
    builder = DatasetBuilder(audio, AudioAdapter.default(), str(csv.parent), chunk_duration=20.0)

    def build(*, endless: bool) -> Any:
        return builder.build(
            str(csv),
            batch_size=BATCH,
            n_chunks_per_song=CHUNKS_PER_SONG,
            cache_directory=str(cache),
            infinite_generator=endless,
        )

    for _ in build(endless=False):
        pass  # fills the cache
    for state in ("cold", "warm"):
        for _ in range(runs):
            if state == "cold":
                drop(cache.parent)
            batches = iter(build(endless=True))
            next(batches)  # its shuffle buffer of 256 crops fills before the clock runs
            started = time.perf_counter()
            for _ in range(count):
                next(batches)
            print(state, time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
