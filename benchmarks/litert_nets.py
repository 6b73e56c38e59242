"""Nets of TFLite files by LiteRT, as `Separator` runs them: a net a thread.

    python -m benchmarks.litert_nets serve FOLDER
    python -m benchmarks.litert_nets once FOLDER SEGMENTS

FOLDER has the files and input.npy, magnitudes [frames, bins, 2]. As in benchmarks/onnx_nets.py,
`serve` says `ready`, and for a number on its standard input runs all nets so often and prints the
seconds; `once` does that in a process of its own, which loads nothing else.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stemforge import find_models
from stemforge.eval.runtimes.litert import LiteRTNets


def load(folder: Path) -> dict[str, LiteRTNets]:
    """The nets by stem."""
    loaded = [LiteRTNets(path, threads=1) for path in find_models(folder, runtime="litert")]
    return {net.interface.stems[0]: net for net in loaded}


def main(what: str, folder: Path, *rest: str) -> None:
    loaded = load(folder)
    mixture = np.load(folder / "input.npy")
    pool = ThreadPoolExecutor(len(loaded))

    def run(segments: int) -> None:
        for _ in range(segments):
            list(pool.map(lambda net: net(mixture), loaded.values()))

    if what == "once":
        run(int(rest[0]))
        return
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
