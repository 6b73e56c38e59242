"""Runs a live separation between devices and files."""

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemforge.errors import UserError
from stemforge.eval.separation.live import LiveSong, Window
from stemforge.features.audio.files import stream_song
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.console import say
from stemforge.pipelines.live.devices import common_rate, find_device, stream
from stemforge.pipelines.live.exchange import Exchange, Ramp
from stemforge.pipelines.live.keys import HELP, QUIT, Mixer, are_there, pressed_keys
from stemforge.pipelines.live.planning import Delays, Load, Plan, Server, Wishes, plan, plan_files
from stemforge.pipelines.live.recording import Recorder
from stemforge.pipelines.live.session import Engine
from stemforge.pipelines.live.sources import Player, read_song
from stemforge.pipelines.options import local_path
from stemforge.pipelines.running.songs import ENDINGS
from stemforge.train.model_files import Interface

CAPACITY_S = 4.0  # of sound that waits for longer than a window takes; beyond it some is lost
LOOK_S = 0.1
STALLED_S = 2.0  # without a block, a device is taken to be gone
LISTENED_BLOCKS = 8  # before it is known how many samples come at once
NO_SOUND = (
    f"no sound for {STALLED_S:g} s: a device was disconnected, or its server has stopped: start it "
    "again"
)
MIX = "/mix"  # no stem has such a name


@dataclass(frozen=True)
class Live:
    """What is separated, and how.

    Attributes:
        load: loads the models.
        cores: that the nets' threads may use; None: the threads are not ours to say.
        interface: of the models.
        wishes: how long it may take.
        gains: factors of all outputs in the mix, in order.
        source: a device or a file; None: the system's input.
        sink: a device or a file; None: the system's output.
        record: folder that gets a file for each output; None: nothing is recorded.
        subtype: of the files that are written.
    """

    load: Load
    cores: int | None
    interface: Interface
    wishes: Wishes
    gains: dict[str, float]
    source: str | None
    sink: str | None
    record: Path | None
    subtype: Subtype


def file_of(place: str | None) -> Path | None:
    """The file that an input or output names; None: it is a device."""
    if place is None or not (Path(place).suffix.lower() in ENDINGS or Path(place).is_file()):
        return None
    return local_path(place)


def run(live: Live) -> None:
    """Separates until the song ends, or until Ctrl-C or the key q.

    Raises:
        UserError: a device is missing or stops, the machine is too slow, or a file cannot be read
            or written.
    """
    song, mix = file_of(live.source), file_of(live.sink)
    if mix is not None and mix.suffix.lower() != ".wav":
        raise UserError(f"--output {mix}: only .wav files are written: choose such a name")
    paths = _paths(live, mix)
    if mix and live.wishes.reserve_s is not None:
        raise UserError("--reserve-ms: nothing is played that could be late: leave it out")
    if song and mix:
        _run_files(live, song, paths)
    else:
        _run_devices(live, song, paths, plays=mix is None)


def _run_devices(live: Live, song: Path | None, paths: Mapping[str, Path], *, plays: bool) -> None:
    """Between devices, or a device and a file."""
    source = None if song else find_device(live.source, "input")
    sink = find_device(live.sink, "output") if plays else None
    rate_hz = common_rate(source, sink)
    blocks = read_song(song, sample_rate_hz=rate_hz) if song else None
    callback = _Callback()
    with ExitStack() as stack:
        latency_s = stack.enter_context(
            stream(source, sink, sample_rate_hz=rate_hz, callback=callback)
        )
        block_s = callback.listen() / rate_hz
        server = Server(max(latency_s, block_s), block_s, plays)
        delays = Delays(live.interface, rate_hz)
        chosen = plan(live.load, live.wishes, delays, server, cores=live.cores)
        mixer = Mixer(live.gains)
        exchange = Exchange(
            chosen.separator.stems,
            channels=2,
            reserve=round(chosen.reserve_s * rate_hz),
            capacity=round((CAPACITY_S + chosen.times.seconds[chosen.window.frames]) * rate_hz),
        )
        exchange.set_gains(mixer.gains)
        recorder = _recorder(paths, live, rate_hz, keep=True) if paths else None
        record = _with_mix(stack.enter_context(recorder), mixer) if recorder else None
        player = stack.enter_context(Player(blocks)) if blocks else None
        say(f"live: {' and '.join(str(device) for device in (source, sink) if device)}")
        say(_summary(chosen, live.wishes))
        session = _Session(
            exchange,
            Engine(functools.partial(_start, chosen, rate_hz), exchange, record),
            player,
            mixer,
            chosen.times.latency_s(chosen.window, live.wishes),
            rate_hz,
            plays,
        )
        try:
            with session.engine:
                _play(session, callback)
            if session.engine.error is not None:
                raise session.engine.error
        finally:
            say(session.counts())
            _say_clipped(recorder, paths)


class _Callback:
    """What the sound server calls: it hears nothing and plays silence until a session begins.

    Attributes:
        session: where sound goes; None: nowhere.
    """

    def __init__(self) -> None:
        self.session: _Session | None = None
        self._blocks = 0
        self._longest = 0

    def __call__(self, block: Waveform | None, samples: int, broken: bool) -> Waveform | None:
        """See devices.Callback."""
        self._longest = max(self._longest, samples)
        self._blocks += 1
        session = self.session  # another thread may end it
        if session is None:
            return np.zeros((samples, 2), np.float32)
        return session.exchanged(block, samples, broken)

    def listen(self) -> int:
        """Waits for some blocks; returns the samples of the longest.

        Raises:
            UserError: none come.
        """
        blocks, moved = 0, time.monotonic()
        while blocks < LISTENED_BLOCKS:
            if self._blocks != blocks:
                blocks, moved = self._blocks, time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise UserError(NO_SOUND)
            time.sleep(LOOK_S / 10)
        return self._longest


def _start(chosen: Plan, rate_hz: int) -> LiveSong:
    """The engine, for stereo sound of this rate."""
    hop, lookahead = chosen.window.hop, chosen.window.lookahead
    return chosen.separator.start_live(
        hop=hop, lookahead=lookahead, channels=2, sample_rate_hz=rate_hz
    )


@dataclass(frozen=True)
class _Session:
    """What runs between devices, and what a person watches."""

    exchange: Exchange
    engine: Engine
    player: Player | None
    mixer: Mixer
    latency_s: float
    rate_hz: int
    plays: bool

    def exchanged(self, block: Waveform | None, samples: int, broken: bool) -> Waveform | None:
        """See devices.Callback."""
        self.exchange.broken += broken
        if self.player is not None:
            block = self.player.read(samples)
        assert block is not None
        self.exchange.heard(block)
        return self.exchange.played(samples) if self.plays else None

    def counts(self) -> str:
        """One line about all of it."""
        exchange = self.exchange
        lost = exchange.lost + (self.player.missing if self.player else 0)
        return (
            f"live: {exchange.came / self.rate_hz:.1f} s; {exchange.late} blocks were late, "
            f"{lost / self.rate_hz:.1f} s lost; the sound server dropped out {exchange.broken} "
            "times"
        )


def _play(session: _Session, callback: _Callback) -> None:
    """Until the song or a person ends it."""
    callback.session = session
    try:
        _watch(session)
    except KeyboardInterrupt:
        pass
    finally:
        callback.session = None


def _watch(session: _Session) -> None:
    """Until the end: keys, the meter, and what goes wrong."""
    exchange, player, mixer = session.exchange, session.player, session.mixer
    came, moved, ended = -1, time.monotonic(), None
    delay = session.latency_s * session.rate_hz
    if are_there():
        say(HELP)
    with pressed_keys() as keys, _meter_line():
        while session.engine.error is None:
            time.sleep(LOOK_S)
            if exchange.came != came:
                came, moved = exchange.came, time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise UserError(NO_SOUND)
            for key in keys:
                if key == QUIT:
                    return
                if mixer.press(key):
                    exchange.set_gains(mixer.gains)
            if player is not None:
                if player.error is not None:
                    raise player.error
                if ended is None and player.ended:
                    ended = exchange.came
                if ended is not None and exchange.came >= ended + delay:
                    return
            _show(session)


@contextmanager
def _meter_line() -> Iterator[None]:
    """Removes the meter at the end, so that other lines do not stand behind it."""
    try:
        yield
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _show(session: _Session) -> None:
    """The meter's line, at a terminal: stems with their gains, and their peaks below full scale."""
    if not sys.stderr.isatty():
        return
    exchange, mixer = session.exchange, session.mixer
    seconds = exchange.came / session.rate_hz
    peaks = exchange.peaks(round(LOOK_S * session.rate_hz))
    stems = "  ".join(
        f"{'>' if stem == mixer.chosen else ' '}{stem} x{gain:.2f} {_decibels(peaks[stem])} dB"
        for stem, gain in mixer.gains.items()
    )
    load = 100 * session.engine.busy_s / max(seconds, 1e-9)
    print(
        f"\r{seconds:7.1f} s  {1000 * session.latency_s:.0f} ms late  load {load:3.0f} %  "
        f"late blocks {exchange.late}  {stems}\x1b[K",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip


def _decibels(peak: float) -> str:
    return f"{max(20.0 * math.log10(peak), -99.0) if peak > 0.0 else -99.0:3.0f}"


def _summary(chosen: Plan, wishes: Wishes) -> str:
    """One line: what was chosen, and what it costs."""
    times, window = chosen.times, chosen.window
    waits = times.waits(window, wishes)
    ways = ", ".join(f"{1000 * seconds:.0f} {name}" for name, seconds in waits.items())
    threads = "" if chosen.threads in (None, 1) else f", {chosen.threads} threads a net"
    return (
        f"live: latency {1000 * sum(waits.values()):.0f} ms ({ways}): {_sizes(window)}; computing "
        f"{100 * times.load(window):.0f} % of the time{threads}"
    )


def _sizes(window: Window) -> str:
    return f"{window.frames} frames, hop {window.hop}, lookahead {window.lookahead}"


def _say_clipped(recorder: Recorder | None, paths: Mapping[str, Path]) -> None:
    if recorder is not None and recorder.clipped:
        counts = ", ".join(f"{count} of {paths[name]}" for name, count in recorder.clipped.items())
        say(f"live: values above full scale were clipped ({counts}): --subtype FLOAT keeps them")


def _paths(live: Live, mix: Path | None) -> dict[str, Path]:
    """The files that are written, by the outputs' names.

    Raises:
        UserError: one is there already, or two would be the same.
    """
    paths: dict[str, Path] = {}
    if live.record is not None:
        paths = {stem: live.record / f"{stem}.wav" for stem in live.gains}
    if mix is not None:
        paths[MIX] = mix
    if len({path.resolve() for path in paths.values()}) < len(paths):
        raise UserError(f"--output {mix}: a stem is recorded there: choose another name")
    for path in paths.values():
        if path.exists():
            raise UserError(f"{path}: already exists: move it, or choose another place")
    return paths


def _recorder(paths: Mapping[str, Path], live: Live, rate_hz: int, *, keep: bool) -> Recorder:
    return Recorder(paths, channels=2, sample_rate_hz=rate_hz, subtype=live.subtype, keep=keep)


def _with_mix(recorder: Recorder, mixer: Mixer) -> Callable[[int, Mapping[str, Waveform]], None]:
    """Records outputs and their mix."""
    ramp = Ramp(mixer.gains)

    def record(start: int, outputs: Mapping[str, Waveform]) -> None:
        ramp.set(mixer.gains)
        gains = ramp.next(len(next(iter(outputs.values()))))
        mix = np.einsum("st,stc->tc", gains, np.stack([*outputs.values()]))
        recorder.write(start, {**outputs, MIX: mix})

    return record


def _run_files(live: Live, song: Path, paths: Mapping[str, Path]) -> None:
    """A song into files, as fast as it goes."""
    info, _ = stream_song(song)
    rate_hz = info.sample_rate_hz
    blocks = read_song(song, sample_rate_hz=rate_hz)
    separator, window = plan_files(live.load, live.wishes, Delays(live.interface, rate_hz))
    engine = separator.start_live(
        hop=window.hop, lookahead=window.lookahead, channels=2, sample_rate_hz=rate_hz
    )
    say(f"live: as if {1000 * engine.latency / rate_hz:.0f} ms late: {_sizes(window)}")
    position = 0
    with _recorder(paths, live, rate_hz, keep=False) as recorder:
        record = _with_mix(recorder, Mixer(live.gains))
        for block in blocks:
            record(position - engine.latency, engine.push(block))
            position += len(block)
        if not position:
            raise UserError(f"{song}: no samples to separate")
        rest = np.zeros((engine.latency, 2), np.float32)
        record(position - engine.latency, engine.push(rest))
    _say_clipped(recorder, paths)
