"""Chooses how a live separation runs: what sounds best of what this machine can hold."""

import ctypes
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stemforge.errors import FramesError, UserError
from stemforge.eval.separation.live import Window, latency_of
from stemforge.eval.separation.separator import Separator
from stemforge.eval.separation.streaming import Resampler
from stemforge.train.model_files import Interface

TRIES = 3
# How much longer than usual a window may take to compute: at least, and if there is time left. It
# takes twice as long when another program has one of two cores.
MARGIN, MOST_MARGIN = 2.0, 2.5
MOST_LOAD, MOST_LOAD_AT_ALL = 0.6, 0.9  # of the time: where the program chooses, and ever
ALIKE_DB = 0.05  # what nobody hears: of such windows, the one that takes the least computing
FEWER = "name fewer --stems with --mask direct"


@dataclass(frozen=True)
class Setting:
    """A window, and what it costs in sound.

    Attributes:
        window: what the nets see.
        loss_db: how much lower SDR is than in a whole song's separation: means of songs and stems
            by Deezer's 2stems (docs/live.md).
    """

    window: Window
    loss_db: float


LOOKAHEADS = (0, 2, 4, 8, 16)
# By frames and hop, a value for each lookahead; benchmarks.live measures them.
LOSSES_DB: dict[tuple[int, int], tuple[float, ...]] = {
    (64, 4): (1.14, 0.91, 0.71, 0.65, 0.40),
    (64, 8): (0.77, 0.64, 0.53, 0.58, 0.43),
    (64, 16): (0.74, 0.68, 0.61, 0.55, 0.38),
    (128, 4): (0.78, 0.48, 0.25, 0.30, 0.02),
    (128, 8): (0.36, 0.17, 0.14, 0.08, 0.08),
    (128, 16): (0.26, 0.17, 0.11, 0.04, -0.03),
    (256, 8): (0.35, 0.16, 0.10, 0.05, 0.08),
    (256, 16): (0.30, 0.20, 0.13, 0.06, -0.01),
}
SETTINGS = [
    Setting(Window(frames, hop, lookahead), loss_db)
    for (frames, hop), losses_db in LOSSES_DB.items()
    for lookahead, loss_db in zip(LOOKAHEADS, losses_db, strict=True)
]
# A window of each length, to measure how long it takes: the hop hardly matters.
MEASURED = [Window(frames, 8, 0) for frames in sorted({s.window.frames for s in SETTINGS})]


@dataclass(frozen=True)
class Wishes:
    """What a user asks for.

    Attributes:
        latency_s: the longest delay, with the devices' own.
        window: instead of the choice, whatever its delay; None: what sounds best.
        reserve_s: time for the computing itself; None: as measured.
    """

    latency_s: float
    window: Window | None = None
    reserve_s: float | None = None


@dataclass(frozen=True)
class Server:
    """What the sound server takes of the time.

    Attributes:
        latency_s: of the devices, in and out, by its own account; at least a block.
        block_s: how long the sound is that comes at once.
        plays: whether anything is played; else nothing can be late.
    """

    latency_s: float
    block_s: float
    plays: bool


@dataclass(frozen=True)
class Delays:
    """How long a window waits for sound.

    Attributes:
        interface: of the models.
        sample_rate_hz: of the sound.
    """

    interface: Interface
    sample_rate_hz: int

    def engine_s(self, window: Window) -> float:
        """The engine's delay."""
        rates = (self.sample_rate_hz, self.interface.sample_rate_hz)
        into = Resampler(from_hz=rates[0], to_hz=rates[1], channels=2)
        out = Resampler(from_hz=rates[1], to_hz=rates[0], channels=2)
        late = latency_of(window, self.interface.framing, into, out)
        return late / self.sample_rate_hz

    def hop_s(self, window: Window) -> float:
        """How long a hop lasts, which is the time that a window has."""
        return window.hop * self.interface.framing.step_samples / self.interface.sample_rate_hz


@dataclass(frozen=True)
class Times:
    """What decides which windows a machine can hold.

    Attributes:
        delays: of the windows.
        seconds: that a window takes to compute, by its frames; those that the nets run on.
        server: what it takes.
    """

    delays: Delays
    seconds: Mapping[int, float]
    server: Server

    def load(self, window: Window) -> float:
        """Share of the time that is spent computing."""
        return self.seconds[window.frames] / self.delays.hop_s(window)

    def needed_s(self, window: Window) -> float:
        """The least reserve: a block is heard as a whole before it is computed."""
        return self.seconds[window.frames] + self.server.block_s

    def reserve_s(self, window: Window, wishes: Wishes) -> float:
        """How late the engine may be beyond its own delay."""
        if not self.server.plays:
            return 0.0
        if wishes.reserve_s is not None:
            return wishes.reserve_s
        seconds, block_s = self.seconds[window.frames], self.server.block_s
        left_s = wishes.latency_s - self.delays.engine_s(window) - self.server.latency_s
        return max(MARGIN * seconds + block_s, min(left_s, MOST_MARGIN * seconds + block_s))

    def waits(self, window: Window, wishes: Wishes) -> dict[str, float]:
        """The parts of the delay, in seconds."""
        waits = {"windows": self.delays.engine_s(window)}
        if self.server.plays:
            waits["reserve"] = self.reserve_s(window, wishes)
        return waits | {"devices": self.server.latency_s}

    def latency_s(self, window: Window, wishes: Wishes) -> float:
        """The delay of all together."""
        return sum(self.waits(window, wishes).values())


@dataclass(frozen=True)
class Plan:
    """What a live separation runs with.

    Attributes:
        separator: for windows of that length.
        window: what the nets see.
        times: as measured.
        reserve_s: how late the engine may be beyond its own delay.
        threads: of each net; None: TensorFlow's own.
    """

    separator: Separator
    window: Window
    times: Times
    reserve_s: float
    threads: int | None


Load = Callable[[int, int | None], Separator]
"""From the frames of a window and the threads of a net (None: not ours to say) to loaded models.

Raises FramesError where the nets do not run on so many frames.
"""


def plan(load: Load, wishes: Wishes, delays: Delays, server: Server, *, cores: int | None) -> Plan:
    """What runs best on this machine, which is measured now.

    Args:
        load: loads the models; it is called several times.
        wishes: of the user.
        delays: of the windows.
        server: what it takes.
        cores: that the nets' threads may use; None: the threads are not ours to say.

    Raises:
        UserError: the machine is too slow for the wishes, or the models run on none of the windows.
    """
    seconds: dict[int, float] = {}
    threads = None if cores is None else 1
    refused: FramesError | None = None
    for window in [wishes.window] if wishes.window else MEASURED:
        if seconds and not _may_fit(window.frames, Times(delays, seconds, server), wishes):
            continue
        try:
            separator = load(window.frames, threads)
        except FramesError as error:
            refused = refused or error
            continue
        tries = {threads: _seconds(separator, window, delays)}
        if not seconds and cores is not None:  # what is fastest for one length is so for others
            for more in thread_counts(separator.nets, cores):
                del separator  # before the next needs as much memory
                separator = load(window.frames, more)
                tries[more] = _seconds(separator, window, delays)
        threads = min(tries, key=tries.__getitem__)
        seconds[window.frames] = tries[threads]
        del separator
        _trim()
    if refused is not None and not seconds:
        raise refused
    times = Times(delays, seconds, server)
    if wishes.window is None:
        window = choose([s for s in SETTINGS if s.window.frames in seconds], times, wishes).window
    else:
        window = wishes.window
        check(window, times, wishes)
    separator = load(window.frames, threads)
    _seconds(separator, window, delays)  # the first windows take twice as long
    return Plan(separator, window, times, times.reserve_s(window, wishes), threads)


def _trim() -> None:
    """Gives freed memory back to the system: glibc keeps 30 MB of what the nets had."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(ctypes.c_size_t(0))


def _may_fit(frames: int, shorter: Times, wishes: Wishes) -> bool:
    """Whether a window of so many frames would fit if it took no longer than the shorter ones."""
    least = Times(shorter.delays, {frames: max(shorter.seconds.values())}, shorter.server)
    return any(
        least.load(setting.window) <= MOST_LOAD
        and least.latency_s(setting.window, wishes) <= wishes.latency_s
        for setting in SETTINGS
        if setting.window.frames == frames
    )


def _seconds(separator: Separator, window: Window, delays: Delays) -> float:
    """How long a hop takes to compute: the median of some."""
    song = separator.start_live(
        hop=window.hop, lookahead=window.lookahead, channels=2, sample_rate_hz=delays.sample_rate_hz
    )
    block = np.zeros((round(delays.hop_s(window) * delays.sample_rate_hz), 2), np.float32)
    song.push(block)  # the first is slower
    return statistics.median(_timed(lambda: song.push(block)) for _ in range(TRIES))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plan_files(load: Load, wishes: Wishes, delays: Delays) -> tuple[Separator, Window]:
    """What sounds best of the wanted delay, however long it takes to compute.

    Raises:
        UserError: none has so short a delay, or the models run on none of the windows.
    """
    if wishes.window is not None:
        return load(wishes.window.frames, None), wishes.window
    late = {setting: delays.engine_s(setting.window) for setting in SETTINGS}
    fitting = [setting for setting in SETTINGS if late[setting] <= wishes.latency_s]
    if not fitting:
        raise UserError(
            f"--latency-ms {1000 * wishes.latency_s:g}: {_up(min(late.values()))} ms is the least: "
            "raise it"
        )
    refused: dict[int, FramesError] = {}
    for window in (s.window for s in sorted(fitting, key=lambda setting: setting.loss_db)):
        if window.frames in refused:
            continue
        try:
            return load(window.frames, None), window
        except FramesError as error:
            refused[window.frames] = error
    raise next(iter(refused.values()))


def choose(settings: Sequence[Setting], times: Times, wishes: Wishes) -> Setting:
    """What sounds best of what fits; of what sounds alike, what takes the least computing.

    Raises:
        UserError: nothing fits.
    """
    able = [s for s in settings if times.load(s.window) <= MOST_LOAD]
    if not able:
        least = min(settings, key=lambda s: times.load(s.window)).window
        raise UserError(f"this machine is too slow: {_work(least, times)}: {FEWER}")
    quick = [s for s in able if times.reserve_s(s.window, wishes) >= times.needed_s(s.window)]
    if times.server.plays and not quick:
        _refuse_reserve(min(times.needed_s(s.window) for s in able), wishes)
    late = {s: times.latency_s(s.window, wishes) for s in quick or able}
    fitting = [s for s in late if late[s] <= wishes.latency_s]
    if not fitting:
        best = min(late, key=late.__getitem__)
        raise UserError(
            f"--latency-ms {1000 * wishes.latency_s:g}: {_up(late[best])} ms is the least "
            f"here, where {_work(best.window, times)}: raise it, or {FEWER}"
        )
    best_db = min(s.loss_db for s in fitting)
    alike = [s for s in fitting if s.loss_db <= best_db + ALIKE_DB]
    return min(alike, key=lambda s: (times.load(s.window), s.loss_db))


def check(window: Window, times: Times, wishes: Wishes) -> None:
    """Whether the machine can hold a window that the user has chosen.

    Raises:
        UserError: it cannot.
    """
    if times.load(window) > MOST_LOAD_AT_ALL:
        raise UserError(
            f"--hop {window.hop}: {_work(window, times)}: raise --hop, lower --frames, or {FEWER}"
        )
    if times.server.plays and times.reserve_s(window, wishes) < times.needed_s(window):
        _refuse_reserve(times.needed_s(window), wishes)


def _refuse_reserve(needed_s: float, wishes: Wishes) -> None:
    assert wishes.reserve_s is not None
    raise UserError(
        f"--reserve-ms {1000 * wishes.reserve_s:g}: less than the {_up(needed_s)} ms that "
        "the nets and a block of the sound server take: raise it"
    )


def _up(seconds: float) -> int:
    """Milliseconds that are enough."""
    return math.ceil(1000 * seconds)


def _work(window: Window, times: Times) -> str:
    seconds, hop_s = times.seconds[window.frames], times.delays.hop_s(window)
    return (
        f"the nets take {1000 * seconds:.0f} ms for {window.frames} frames, every "
        f"{1000 * hop_s:.0f} ms"
    )


def thread_counts(nets: int, cores: int) -> list[int]:
    """Numbers of threads of a net that may be faster than one: nets share the cores."""
    share = cores // nets
    return sorted({max(2, share // 2), share}) if share > 1 else []
