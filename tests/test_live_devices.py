"""`stemforge live` with sound devices, by a PortAudio of our own that has no hardware."""

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.separation.separator import Separator, find_models
from stemforge.pipelines.commands.main import main
from stemforge.pipelines.live import running
from stemforge.pipelines.live.devices import common_rate, devices, find_device, stream
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.running import MIX, _with_mix
from tests.conftest import RATE_HZ
from tests.test_separation_live import noise

# A hop lasts 279 ms: even a busy machine computes such small nets in time.
SIZES = ("--frames", "16", "--hop", "12", "--lookahead", "3")
BLOCK = 256


class PortAudioError(Exception):
    pass


class PortAudio:
    """What of sounddevice's module we use; `Stream` and its sisters call back in a thread."""

    PortAudioError = PortAudioError

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = found
        self.default = SimpleNamespace(device=(0, 0))
        self.heard = np.zeros((0, 2), np.float32)  # by input streams; then zeros
        self.played: list[np.ndarray] = []  # by output streams
        self.wait: Callable[[], object] = lambda: None  # before each block
        self.position: Callable[[int], int] = lambda blocks: blocks * BLOCK  # in `heard`
        self.closing = threading.Event()
        self.Stream = self.InputStream = self.OutputStream = self.open

    def _exit_handler(self) -> None:
        pass

    def query_hostapis(self) -> list[dict[str, str]]:
        return [{"name": "ALSA"}, {"name": "JACK"}]

    def query_devices(self) -> tuple[dict[str, Any], ...]:
        return self.found

    def check_input_settings(self, *, device: int, samplerate: int, channels: int) -> None:
        if samplerate not in self.found[device]["rates"]:
            raise PortAudioError("Invalid sample rate")

    check_output_settings = check_input_settings

    def open(self, *, device: Any, channels: Any, callback: Any, **_: Any) -> "PlayingStream":
        return PlayingStream(self, device, channels, callback)


class PlayingStream:
    latency = 0.02

    def __init__(self, portaudio: PortAudio, device: Any, channels: Any, callback: Any) -> None:
        self._portaudio = portaudio
        self._callback = callback
        both = isinstance(device, tuple)
        one = device if not both else device[0]
        ins = both or portaudio.found[one]["max_input_channels"] > 0
        self._in = (channels[0] if both else channels) if ins else None
        self._out = channels[1] if both else None if ins else channels
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._portaudio.closing.set()
        self._thread.join()

    def _run(self) -> None:
        for blocks in itertools.count():
            self._portaudio.wait()
            if self._portaudio.closing.is_set():
                return
            position = self._portaudio.position(blocks)
            part = self._portaudio.heard[position : position + BLOCK]
            block = np.zeros((BLOCK, 2), np.float32)
            block[: len(part)] = part
            ins = [] if self._in is None else [block[:, : self._in]]
            outs = [] if self._out is None else [np.zeros((BLOCK, self._out), np.float32)]
            self._callback(*ins, *outs, BLOCK, None, False)
            self._portaudio.played += [out.copy() for out in outs]


def device(name: str, api: int, ins: int, outs: int, *rates: int) -> dict[str, Any]:
    return {
        "name": name, "hostapi": api, "max_input_channels": ins, "max_output_channels": outs,
        "default_samplerate": float(rates[0]), "rates": rates,
    }  # fmt: skip


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    found = PortAudio(
        device("Microphone", 0, 1, 0, 48_000, 44_100),
        device("Speakers", 0, 0, 2, 44_100),
        device("Speakers (USB)", 0, 0, 1, 44_100, 48_000),
        device("Line in", 1, 6, 0, 44_100),
        device("Headset", 1, 0, 2, 96_000),
    )
    found.default.device = (3, 1)
    monkeypatch.setitem(sys.modules, "sounddevice", found)
    return found


def test_devices_are_found_by_number_and_by_a_part_of_the_name(portaudio: PortAudio) -> None:
    assert str(devices()[3]) == "3: Line in, JACK (6 in, 0 out, 44100 Hz)"
    assert find_device(None, "input").number == 3
    assert find_device(None, "output").number == 1
    assert find_device("0", "input").number == 0
    assert find_device("micro", "input").number == 0
    assert find_device("usb", "output").number == 2
    assert find_device("speakers", "output").number == 1  # the whole name of one
    with pytest.raises(UserError, match=r"^--output 'speak': 2 devices have it in their names: 1:"):
        find_device("speak", "output")
    with pytest.raises(UserError, match=r"^--input 'headset': no such input device: --list-dev"):
        find_device("headset", "input")
    portaudio.found = portaudio.found[1:3]
    with pytest.raises(UserError, match=r"^--input: no input device here: name a file, or start"):
        find_device(None, "input")


def test_the_rate_is_one_that_both_devices_run_at(portaudio: PortAudio) -> None:
    microphone, speakers, usb, _, headset = devices()
    assert common_rate(microphone, speakers) == 44_100
    assert common_rate(microphone, usb) == 44_100  # the output's own comes first
    assert common_rate(microphone, None) == 48_000
    with pytest.raises(
        UserError,
        match=r"^no sampling rate that the devices run at \(Microphone, ALSA 48000 Hz and Headset, "
        r"JACK 96000 Hz\): choose others$",
    ):
        common_rate(microphone, headset)


def test_mono_devices_hear_both_channels_and_play_the_mean(portaudio: PortAudio) -> None:
    portaudio.heard = noise(1000)
    microphone, _, usb, *_ = devices()
    heard = []

    def callback(block: np.ndarray | None, samples: int, broken: bool) -> np.ndarray:
        assert block is not None
        heard.append(block)
        return np.stack([block[:, 0], np.zeros(samples)], axis=1).astype(np.float32)

    with stream(microphone, usb, sample_rate_hz=44_100, callback=callback) as latency_s:
        deadline = time.monotonic() + 30.0
        while len(portaudio.played) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert latency_s == 0.02
    left = portaudio.heard[:768, 0]
    np.testing.assert_array_equal(np.concatenate(heard)[:768], np.stack([left, left], axis=1))
    np.testing.assert_array_equal(np.concatenate(portaudio.played)[:768, 0], left / 2)


@pytest.fixture
def in_time(portaudio: PortAudio, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """Blocks come when the engine has made all of those before, so that none is late.

    Returns:
        The session's exchange, once there is one; what is heard begins with it.
    """
    made: list[Exchange] = []

    class Seen(Exchange):
        def __init__(self, *stems: Any, **options: Any) -> None:
            super().__init__(*stems, **options)
            made.append(self)

    def wait() -> None:
        while made and made[0]._given < made[0].came and not portaudio.closing.is_set():
            time.sleep(0.0005)
        if not made or not made[0].came:
            time.sleep(0.001)

    monkeypatch.setattr(running, "Exchange", Seen)
    portaudio.wait = wait
    portaudio.position = lambda blocks: made[0].came if made else 0
    return made


def live(models: Path, *more: object) -> int:
    flags = ["--model", models, "--runtime", "tensorflow", *SIZES]
    return main(["live", *map(str, (*flags, *more))])


def engine_alone(models: Path, wave: np.ndarray) -> dict[str, np.ndarray]:
    """What the engine makes of a sound, from its first sample on."""
    separator = Separator.load(find_models(models), runtime="tensorflow", frames=16)
    engine = separator.start_live(hop=12, lookahead=3, channels=2, sample_rate_hz=RATE_HZ)
    padded = np.concatenate([wave, np.zeros((engine.latency, 2), np.float32)])
    return {stem: found[engine.latency :] for stem, found in engine.push(padded).items()}


@pytest.mark.usefixtures("in_time")
def test_a_song_is_played_to_its_end(
    portaudio: PortAudio, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = 0.4 * noise(30_000)
    soundfile.write(tmp_path / "song.wav", wave, RATE_HZ, subtype="FLOAT")
    flags = ["--input", tmp_path / "song.wav", "--output", "speakers", "--reserve-ms", "1000"]
    assert live(models, *flags, "--mix", "vocals=0.5") == 0
    truth = engine_alone(models, wave)
    mix = 0.5 * truth["vocals"] + truth["drums"]
    heard = np.concatenate(portaudio.played)
    begun = int(np.argmax(np.abs(heard).max(axis=1) > 1e-6))
    first = int(np.argmax(np.abs(mix).max(axis=1) > 1e-6))
    late = begun - first  # the stream ran before the song began, for as long as it took to measure
    found = heard[late : late + len(mix)]
    assert len(found) == len(mix)
    np.testing.assert_allclose(found[BLOCK:], mix[BLOCK:], atol=1e-5)  # it fades in
    said = capsys.readouterr().err
    assert "live: 1: Speakers, ALSA (0 in, 2 out, 44100 Hz)" in said
    assert "; 0 blocks were late, 0.0 s lost; the sound server dropped out 0 times" in said


@pytest.mark.usefixtures("in_time")
def test_a_device_is_recorded_until_a_key(
    portaudio: PortAudio, in_time: list[Exchange], models: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The mix of the files is the mix that keys set; the stems are whole."""
    portaudio.heard = 0.4 * noise(400_000)
    mix, record = tmp_path / "mix.wav", tmp_path / "stems"
    keys = [(60_000, "m"), (120_000, "q")]  # when so many samples are separated

    class Looks:
        def __iter__(self) -> Iterator[str]:
            return iter([keys.pop(0)[1]] if in_time[0]._given > keys[0][0] else [])

    @contextmanager
    def pressed() -> Iterator[Looks]:
        yield Looks()

    monkeypatch.setattr(running, "pressed_keys", pressed)
    flags = ["--output", mix, "--record", record, "--subtype", "FLOAT"]
    assert live(models, *flags) == 0
    assert "; 0 blocks were late, 0.0 s lost" in capsys.readouterr().err  # nothing is played
    drums, vocals = (soundfile.read(record / f"{stem}.wav")[0] for stem in ("drums", "vocals"))
    heard, rate_hz = soundfile.read(mix)
    assert rate_hz == RATE_HZ
    assert len(heard) == len(drums) == len(vocals) > 100_000
    # Whatever was heard is recorded, but for a block that may have come as it ended.
    assert in_time[0].came - len(heard) in (0, BLOCK)
    truth = engine_alone(models, portaudio.heard[: len(heard)])
    np.testing.assert_allclose(vocals, truth["vocals"], atol=1e-5)
    np.testing.assert_allclose(heard[:20_000], (drums + vocals)[:20_000], atol=1e-6)
    # Drums are the first stem, which "m" mutes.
    np.testing.assert_allclose(heard[-BLOCK:], vocals[-BLOCK:], atol=1e-6)
    assert np.abs(drums[-BLOCK:]).max() > 1e-3


def test_keys_do_not_click_in_a_recorded_mix() -> None:
    written: list[np.ndarray] = []
    recorder: Any = SimpleNamespace(write=lambda start, waves: written.append(waves[MIX]))
    mixer: Any = SimpleNamespace(gains={"a": 1.0, "b": 0.5})
    record = _with_mix(recorder, mixer)
    ones = {stem: np.ones((500, 2), np.float32) for stem in "ab"}
    record(0, ones)
    mixer.gains = {"a": 0.0, "b": 0.5}
    record(500, ones)
    mix = np.concatenate(written)
    assert (mix[:500] == 1.5).all()
    assert (mix[800:] == 0.5).all()
    assert np.abs(np.diff(mix, axis=0)).max() < 0.005


def test_a_server_that_calls_nobody_is_one_line(
    portaudio: PortAudio, models: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(running, "STALLED_S", 0.1)
    closing = threading.Event()
    portaudio.wait = lambda: closing.wait(1.0)
    assert live(models) == 2
    assert "error: no sound for 2 s: a device was disconnected" in capsys.readouterr().err
