"""Runs a live separation between devices and files."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemforge.errors import UserError
from stemforge.eval.separation.live import LiveSong
from stemforge.eval.separation.separator import Separator
from stemforge.features.audio.files import stream_song
from stemforge.features.audio.formats import Subtype
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.console import say
from stemforge.pipelines.live.devices import common_rate, find_device, stream
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.keys import HELP, QUIT, Mixer, are_there, pressed_keys
from stemforge.pipelines.live.recording import Recorder
from stemforge.pipelines.live.session import Engine
from stemforge.pipelines.live.sources import Player, read_song
from stemforge.pipelines.options import local_path
from stemforge.pipelines.running.songs import ENDINGS

CAPACITY_S = 4.0  # of sound that waits to be separated; beyond it some is lost
LOOK_S = 0.1
STALLED_S = 2.0  # without a block, a device is taken to be gone
TRIES = 5
MOST_LOAD = 0.9
MIX = "/mix"  # no stem has such a name


@dataclass(frozen=True)
class Live:
    """What is separated, and how.

    Attributes:
        separator: of the models.
        hop: see eval.separation.live.Window.
        lookahead: see eval.separation.live.Window.
        reserve_s: time for the computing itself.
        gains: factors of all outputs in the mix, in order.
        source: a device or a file; None: the system's input.
        sink: a device or a file; None: the system's output.
        record: folder that gets a file for each output; None: nothing is recorded.
        subtype: of the files that are written.
    """

    separator: Separator
    hop: int
    lookahead: int
    reserve_s: float
    gains: dict[str, float]
    source: str | None
    sink: str | None
    record: Path | None
    subtype: Subtype

    def start(self, sample_rate_hz: int) -> LiveSong:
        """The engine, for stereo sound of this rate."""
        return self.separator.start_live(
            hop=self.hop, lookahead=self.lookahead, channels=2, sample_rate_hz=sample_rate_hz
        )


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
    if song and mix:
        _run_files(live, song, mix)
        return
    heard = None if song else find_device(live.source, "input")
    plays = None if mix else find_device(live.sink, "output")
    rate_hz = common_rate(heard, plays)
    latency = live.start(rate_hz).latency
    seconds, whole = _measure(live, rate_hz)
    reserve = round(live.reserve_s * rate_hz)
    if plays and seconds > live.reserve_s:
        raise UserError(
            f"--reserve-ms {1000 * live.reserve_s:g}: less than the {1000 * seconds:.0f} ms that "
            f"{len(live.gains)} stems take on this machine: raise it"
        )
    mixer = Mixer(live.gains)
    exchange = Exchange(
        live.separator.stems,
        channels=2,
        reserve=reserve,
        capacity=round(CAPACITY_S * rate_hz),
    )
    exchange.set_gains(mixer.gains)
    blocks = read_song(song, sample_rate_hz=rate_hz) if song else None
    with ExitStack() as stack:
        record = None
        if paths := _paths(live, mix):
            recorder = stack.enter_context(_recorder(paths, live, rate_hz, keep=True))
            record = _with_mix(recorder, mixer)
        player = stack.enter_context(Player(blocks)) if blocks else None
        engine = stack.enter_context(Engine(lambda: live.start(rate_hz), exchange, record))

        def callback(block: Waveform | None, samples: int, broken: bool) -> Waveform | None:
            exchange.broken += broken
            if player is not None:
                block = player.read(samples)
            assert block is not None
            exchange.heard(block)
            return exchange.played(samples) if plays else None

        stack.enter_context(stream(heard, plays, sample_rate_hz=rate_hz, callback=callback))
        delay = latency + reserve if plays else latency
        say(
            f"live: {' and '.join(str(d) for d in (heard, plays) if d)}: latency "
            f"{1000 * delay / rate_hz:.0f} ms and the devices' own, {100 * seconds / whole:.0f} % "
            "of the time computing"
        )
        with suppress(KeyboardInterrupt):
            _watch(exchange, engine, player, mixer, delay=delay, rate_hz=rate_hz)
    if engine.error is not None:
        raise engine.error
    lost = exchange.lost + (player.missing if player else 0)
    say(
        f"live: {exchange.came / rate_hz:.1f} s, late {exchange.late} blocks, lost "
        f"{lost / rate_hz:.1f} s, and {exchange.broken} times sound between server and program"
    )


def _watch(
    exchange: Exchange,
    engine: Engine,
    player: Player | None,
    mixer: Mixer,
    *,
    delay: int,
    rate_hz: int,
) -> None:
    """Until the end: keys, the meter, and what goes wrong."""
    came, moved, ended = -1, time.monotonic(), None
    if are_there():
        say(HELP)
    with pressed_keys() as keys, _meter_line():
        while engine.error is None:
            time.sleep(LOOK_S)
            if exchange.came != came:
                came, moved = exchange.came, time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise UserError(
                    f"no sound for {STALLED_S:g} s: a device was disconnected, or its server has "
                    "stopped: start it again"
                )
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
            _show(exchange, engine, mixer, rate_hz)


@contextmanager
def _meter_line() -> Iterator[None]:
    """Removes the meter at the end, so that other lines do not stand behind it."""
    try:
        yield
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _show(exchange: Exchange, engine: Engine, mixer: Mixer, rate_hz: int) -> None:
    """The meter's line, at a terminal."""
    if not sys.stderr.isatty():
        return
    seconds = exchange.came / rate_hz
    gains = "  ".join(
        f"{'>' if stem == mixer.chosen else ' '}{stem} {gain:.2f}"
        for stem, gain in mixer.gains.items()
    )
    load = 100 * engine.busy_s / max(seconds, 1e-9)
    print(
        f"\r{seconds:7.1f} s  load {load:3.0f} %  late {exchange.late}  {gains}\x1b[K",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip


def _measure(live: Live, rate_hz: int) -> tuple[float, float]:
    """Seconds that a hop takes to compute, and that it lasts.

    Raises:
        UserError: it takes nearly all of the time, or more.
    """
    song = live.start(rate_hz)
    framing, inside_hz = live.separator.framing, live.separator.sample_rate_hz
    whole = live.hop * framing.step_samples / inside_hz
    block = np.zeros((round(whole * rate_hz), 2), np.float32)
    taken = []
    for _ in range(TRIES + 1):
        began = time.perf_counter()
        song.push(block)
        taken.append(time.perf_counter() - began)
    seconds = sorted(taken[1:])[TRIES // 2]
    if seconds > MOST_LOAD * whole:
        raise UserError(
            f"--hop {live.hop}: {len(live.gains)} stems take {1000 * seconds:.0f} ms of the "
            f"{1000 * whole:.0f} ms that a hop lasts: raise --hop, lower --frames, or name fewer "
            "--stems with --mask direct"
        )
    return seconds, whole


def _paths(live: Live, mix: Path | None) -> dict[str, Path]:
    """The files that are written, by the outputs' names.

    Raises:
        UserError: one is there already, or two would be the same.
    """
    paths: dict[str, Path] = {}
    if live.record is not None:
        paths = {stem: live.record / f"{stem}.wav" for stem in live.separator.stems}
    if mix is not None:
        paths[MIX] = mix
    if len({path.resolve() for path in paths.values()}) < len(paths):
        raise UserError(f"--output {mix}: a stem is recorded there: choose another name")
    for path in paths.values():
        if path.exists():
            raise UserError(f"{path}: already exists: move it, or choose another place")
    return paths


def _recorder(paths: Mapping[str, Path], live: Live, rate_hz: int, *, keep: bool) -> Recorder:
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    return Recorder(paths, channels=2, sample_rate_hz=rate_hz, subtype=live.subtype, keep=keep)


def _with_mix(recorder: Recorder, mixer: Mixer) -> Callable[[int, Mapping[str, Waveform]], None]:
    """Records outputs and their mix."""

    def record(start: int, outputs: Mapping[str, Waveform]) -> None:
        gains = mixer.gains
        mix = np.sum([gains[stem] * wave for stem, wave in outputs.items()], axis=0)
        recorder.write(start, {**outputs, MIX: mix.astype(np.float32)})

    return record


def _run_files(live: Live, song: Path, mix: Path) -> None:
    """A song into files, as fast as it goes."""
    info, _ = stream_song(song)
    rate_hz = info.sample_rate_hz
    blocks = read_song(song, sample_rate_hz=rate_hz)
    engine, position = live.start(rate_hz), 0
    rest = np.zeros((engine.latency, 2), np.float32)
    with _recorder(_paths(live, mix), live, rate_hz, keep=False) as recorder:
        record = _with_mix(recorder, Mixer(live.gains))
        for block in itertools.chain(blocks, [rest]):
            record(position - engine.latency, engine.push(block))
            position += len(block)
