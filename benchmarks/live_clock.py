"""A live separation by a clock that stands still while anything is computed."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks import common
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.sources import read_song

Push = Callable[[Waveform], tuple[Mapping[str, Waveform], float]]
"""From a block to the outputs and the seconds that they took."""


def again_and_again(song: Path, size: int) -> Iterator[Waveform]:
    """Blocks of a song that never ends."""
    rest = np.zeros((0, 2), np.float32)
    while parts := [*read_song(song, sample_rate_hz=common.RATE_HZ)]:
        for part in parts:
            wave = np.concatenate([rest, part])
            for start in range(0, len(wave) - size + 1, size):
                yield wave[start : start + size]
            rest = wave[len(wave) // size * size :]


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
