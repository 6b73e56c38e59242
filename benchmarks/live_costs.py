"""What `stemforge live` costs: time of a window, late blocks, memory.

    python -m benchmarks.live_costs EXPORTS SONG [--minutes 60]

EXPORTS holds TFLite files of nets of Spleeter's size, such as `stemforge convert-spleeter` makes.
For two stems and four (the same nets twice), and a wanted latency: the command's own choice of
windows on this machine, and then as many minutes of the song, again and again, as it comes from a
sound server of 44.1 kHz in blocks of 256 samples. The clock is simulated, so that nothing waits,
but the time that each block takes to compute is measured: a block counts as late where a server
would have had nothing to play. Memory is the greatest that the process has had.
"""

import dataclasses
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import common
from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.eval.separation.filters import Estimates
from stemforge.eval.separation.separator import Separator, read_interface
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.planning import Delays, Wishes, plan
from stemforge.pipelines.live.sources import read_song
from stemforge.train.model_files import find_tflite

BLOCK = 256
DEVICE_S = 2 * BLOCK / common.RATE_HZ  # in and out
CASES = ((2, 350.0), (2, 500.0), (4, 500.0))  # stems, latency in ms
Push = Callable[[Waveform], tuple[Mapping[str, Waveform], float]]
"""From a block to the outputs and the seconds that they took."""


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("exports", type=Path, help="TFLite files of two stems")
    parser.add_argument("song", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="of each case (%(default)g)")
    arguments = parser.parse_args(argv)
    columns = ["stems", "wanted", "frames", "hop", "lookahead", "latency", "a window takes"]
    columns += ["at most", "load", "late blocks", "memory"]
    rows = []
    for stems, latency_ms in CASES:
        # A process of its own, so that memory is its alone.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows.append(
                pool.submit(
                    measure, arguments.exports, arguments.song, stems, latency_ms, arguments.minutes
                ).result()
            )
    common.print_table(columns, rows)


class Named:
    """Nets whose stem has another name: more of the same size."""

    def __init__(self, path: Path, stem: str, *, frames: int, threads: int) -> None:
        self._nets = LiteRTNets(path, threads=threads, frames=frames)
        self.interface = dataclasses.replace(self._nets.interface, stems=(stem,))

    def __call__(self, mixture: Estimates) -> dict[str, Estimates]:
        """As LiteRTNets."""
        (found,) = self._nets(mixture).values()
        return {self.interface.stems[0]: found}


def measure(exports: Path, song: Path, stems: int, latency_ms: float, minutes: float) -> list[str]:
    """A case's row."""
    paths = find_tflite(exports)
    names = {f"stem {number}": paths[number % len(paths)] for number in range(stems)}

    def load(frames: int, threads: int) -> Separator:
        return Separator(
            [Named(path, name, frames=frames, threads=threads) for name, path in names.items()]
        )

    delays = Delays(read_interface(paths[0]), common.RATE_HZ)
    wishes = Wishes(latency_ms / 1000.0)
    chosen = plan(load, wishes, delays, device_s=DEVICE_S)
    window = chosen.window
    engine = chosen.separator.start_live(
        hop=window.hop, lookahead=window.lookahead, channels=2, sample_rate_hz=common.RATE_HZ
    )
    reserve = round(chosen.reserve_s * common.RATE_HZ)
    exchange = Exchange([*names], channels=2, reserve=reserve, capacity=4 * common.RATE_HZ)
    exchange.set_gains(dict.fromkeys(names, 1.0))
    taken = []

    def push(block: Waveform) -> tuple[Mapping[str, Waveform], float]:
        began = time.perf_counter()
        outputs = engine.push(block)
        taken.append(time.perf_counter() - began)
        return outputs, taken[-1]

    blocks = round(minutes * 60.0 * common.RATE_HZ / BLOCK)
    for _ in simulate(exchange, again_and_again(song), push, blocks=blocks):
        pass
    hops = sorted(taken)[-blocks * BLOCK // (window.hop * 1024) :]  # the others compute no net
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return [
        f"{stems}",
        f"{latency_ms:.0f} ms",
        *map(str, (window.frames, window.hop, window.lookahead)),
        f"{1000 * chosen.times.latency_s(window, wishes):.0f} ms",
        f"{1000 * float(np.median(hops)):.0f} ms",
        f"{1000 * max(hops):.0f} ms",
        f"{100 * sum(taken) / (minutes * 60.0):.0f} %",
        f"{exchange.late}",
        f"{memory:.0f} MB",
    ]


def again_and_again(song: Path) -> Iterator[Waveform]:
    """Blocks of a song that never ends."""
    rest = np.zeros((0, 2), np.float32)
    while True:
        for part in read_song(song, sample_rate_hz=common.RATE_HZ):
            wave = np.concatenate([rest, part])
            for start in range(0, len(wave) - BLOCK + 1, BLOCK):
                yield wave[start : start + BLOCK]
            rest = wave[len(wave) // BLOCK * BLOCK :]


def simulate(
    exchange: Exchange, sound: Iterator[Waveform], push: Push, *, blocks: int
) -> Iterator[Waveform]:
    """What a sound server would play, by a clock that stands still while anything is computed.

    Like pipelines.live.session.Engine, a thread takes all that was heard, computes, and gives; the
    callback comes at every block's end. The clock counts samples.

    Args:
        exchange: between the two.
        sound: blocks of one size.
        push: the engine.
        blocks: how many are played.
    """
    job: tuple[float, int, Mapping[str, Waveform]] | None = None  # its end, and what it gives

    def begin(now: float) -> tuple[float, int, Mapping[str, Waveform]]:
        start, taken = exchange.take()
        outputs, seconds = push(taken)
        return now + seconds * common.RATE_HZ, start, outputs

    heard, waiting = 0, False
    for _ in range(blocks):
        block = next(sound)
        now = heard + len(block)
        while job is not None and job[0] <= now:
            exchange.give(*job[1:])
            job = begin(job[0]) if waiting else None
            waiting = False
        exchange.heard(block)
        heard = now
        yield exchange.played(len(block))
        if job is None:
            job = begin(now)
        else:
            waiting = True


if __name__ == "__main__":
    main()
