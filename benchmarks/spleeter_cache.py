"""Seconds that Spleeter's own training dataset takes to fill its uint8 cache.

Runs in Spleeter's environment, not ours (benchmarks/features.py makes it):

    python benchmarks/spleeter_cache.py TRAIN_CSV CACHE_FOLDER
"""

import sys
import time
from pathlib import Path

from spleeter.audio.adapter import AudioAdapter
from spleeter.dataset import DatasetBuilder
from spleeter_setup import AUDIO

CHUNK_S = 20.0
CHUNKS_PER_SONG = 6


def main() -> None:
    csv, cache = Path(sys.argv[1]), Path(sys.argv[2])
    songs = len(csv.read_text().splitlines()) - 1
    builder = DatasetBuilder(AUDIO, AudioAdapter.default(), str(csv.parent), chunk_duration=CHUNK_S)
    dataset = builder.build(
        str(csv),
        batch_size=4,
        n_chunks_per_song=CHUNKS_PER_SONG,
        cache_directory=str(cache),
        infinite_generator=False,
    )
    started = time.perf_counter()
    batches = sum(1 for _ in dataset)
    seconds = time.perf_counter() - started
    assert batches, "Spleeter rejected every chunk"
    print(f"{songs * CHUNKS_PER_SONG * CHUNK_S} {seconds}")


if __name__ == "__main__":
    main()
