"""Sound devices, by PortAudio."""

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stemforge.errors import UserError, needs
from stemforge.features.signal.stft import Waveform
from stemforge.text import show

Way = Literal["input", "output"]
CHANNELS = 2
ANSWER_S = 5.0  # for the sound server


@dataclass(frozen=True)
class Device:
    """A sound device.

    Attributes:
        number: PortAudio's.
        name: with that of its host API, such as "system, JACK Audio Connection Kit".
        inputs: channels that it hears.
        outputs: channels that it plays.
        sample_rate_hz: its own.
    """

    number: int
    name: str
    inputs: int
    outputs: int
    sample_rate_hz: int

    def channels(self, way: Way) -> int:
        """How many it has in this direction."""
        return self.inputs if way == "input" else self.outputs

    def __str__(self) -> str:
        return (
            f"{self.number}: {self.name} ({self.inputs} in, {self.outputs} out, "
            f"{self.sample_rate_hz} Hz)"
        )


def _portaudio() -> Any:
    """The library.

    Raises:
        UserError: it is not installed.
    """
    with needs("live", what="sound devices"):
        try:
            import sounddevice
        except OSError as error:
            raise UserError(
                f"sounddevice: {error}: install it, such as Debian's package libportaudio2"
            ) from None
        except ImportError:
            raise
        except Exception as error:  # its own class, which the failed import takes along
            raise UserError(f"sound devices: {error}") from None
    return sounddevice


def devices() -> list[Device]:
    """All that PortAudio finds now.

    Raises:
        UserError: PortAudio is missing or fails.
    """
    portaudio = _portaudio()
    try:
        hosts, all_found = portaudio.query_hostapis(), portaudio.query_devices()
    except portaudio.PortAudioError as error:
        raise UserError(f"sound devices: {error}") from None
    return [
        Device(
            number,
            f"{found['name']}, {hosts[found['hostapi']]['name']}",
            found["max_input_channels"],
            found["max_output_channels"],
            round(found["default_samplerate"]),
        )
        for number, found in enumerate(all_found)
    ]


def find_device(wanted: str | None, way: Way) -> Device:
    """The device that a user names.

    Args:
        wanted: its number, or a part of its name; None: the system's default.
        way: what it is for.

    Raises:
        UserError: there is none, or more than one of that name.
    """
    portaudio = _portaudio()
    able = [device for device in devices() if device.channels(way)]
    if wanted is None:
        default = portaudio.default.device[way == "output"]
        matching = [device for device in able if device.number == default] or able[:1]
    elif wanted.isdecimal():
        matching = [device for device in able if device.number == int(wanted)]
    else:
        matching = [device for device in able if wanted.lower() in device.name.lower()]
        exact = [d for d in matching if d.name.rpartition(", ")[0].lower() == wanted.lower()]
        matching = exact if len(exact) == 1 else matching
    if len(matching) == 1:
        return matching[0]
    what = f"--{way} {show(wanted)}" if wanted is not None else f"--{way}"
    if not able:
        raise UserError(f"{what}: no {way} device here: name a file, or start a sound server")
    if matching:
        names = "; ".join(map(str, matching))
        raise UserError(f"{what}: {len(matching)} devices have it in their names: {names}")
    raise UserError(f"{what}: no such {way} device: --list-devices shows them")


def common_rate(first: Device | None, second: Device | None) -> int:
    """The rate that both devices run at; one of them may be missing.

    Raises:
        UserError: they have none in common.
    """
    portaudio = _portaudio()
    ways: list[tuple[Device, Way]] = []
    ways += [(first, "input")] if first else []
    ways += [(second, "output")] if second else []
    for rate_hz in dict.fromkeys(device.sample_rate_hz for device, _ in reversed(ways)):
        try:
            for device, way in ways:
                check: Any = getattr(portaudio, f"check_{way}_settings")
                check(device=device.number, samplerate=rate_hz, channels=_channels(device, way))
        except portaudio.PortAudioError:
            continue
        return rate_hz
    rates = " and ".join(f"{device.name} {device.sample_rate_hz} Hz" for device, _ in ways)
    raise UserError(f"no sampling rate that the devices run at ({rates}): choose others")


def _channels(device: Device, way: Way) -> int:
    return min(CHANNELS, device.channels(way))


Callback = Callable[[Waveform | None, int, bool], Waveform | None]
"""From what was heard, float32 [samples, 2], and a number of samples to those to play.

The third argument says whether sound before this block was lost between server and callback.
"""


@contextmanager
def stream(
    heard: Device | None, plays: Device | None, *, sample_rate_hz: int, callback: Callback
) -> Iterator[float]:
    """Sound through a callback, in stereo; mono devices get the mean, or give both channels.

    Args:
        heard: the input device; None: there is none.
        plays: the output device; None: there is none.
        sample_rate_hz: of both.
        callback: is called in a thread of PortAudio's, for each block.

    Yields:
        The devices' own latency, in and out, in seconds, as PortAudio states it.

    Raises:
        UserError: a device cannot be opened.
    """
    portaudio = _portaudio()

    def full(indata: Any, outdata: Any, frames: int, time: Any, status: Any) -> None:
        outdata[:] = _narrow(callback(_stereo(indata), frames, bool(status)), outdata.shape[1])

    def only_in(indata: Any, frames: int, time: Any, status: Any) -> None:
        callback(_stereo(indata), frames, bool(status))

    def only_out(outdata: Any, frames: int, time: Any, status: Any) -> None:
        outdata[:] = _narrow(callback(None, frames, bool(status)), outdata.shape[1])

    options = {"samplerate": sample_rate_hz, "dtype": "float32", "latency": "low"}
    try:
        if heard and plays:
            found = portaudio.Stream(
                device=(heard.number, plays.number),
                channels=(_channels(heard, "input"), _channels(plays, "output")),
                callback=full,
                **options,
            )
        elif heard:
            found = portaudio.InputStream(
                device=heard.number, channels=_channels(heard, "input"), callback=only_in, **options
            )
        else:
            assert plays is not None
            found = portaudio.OutputStream(
                device=plays.number, channels=_channels(plays, "output"), callback=only_out,
                **options,
            )  # fmt: skip
        try:
            if not _in_time(found.start, portaudio):
                raise UserError("the sound server does not answer: start it again")
            yield float(np.sum(found.latency))
        finally:
            _in_time(found.close, portaudio)
    except portaudio.PortAudioError as error:
        names = " and ".join(device.name for device in (heard, plays) if device)
        raise UserError(f"{names}: {error}") from None


def _in_time(call: Callable[[], object], portaudio: Any) -> bool:
    """Whether a call of PortAudio's ends; it waits forever where its sound server has died.

    Raises:
        portaudio.PortAudioError: the call's.
    """
    failed: list[Exception] = []

    def run() -> None:
        try:
            call()
        except portaudio.PortAudioError as error:
            failed.append(error)

    calling = threading.Thread(target=run, daemon=True)
    calling.start()
    calling.join(ANSWER_S)
    if calling.is_alive():
        atexit.unregister(portaudio._exit_handler)  # it would wait, too
        return False
    if failed:
        raise failed[0]
    return True


def _stereo(block: Any) -> Waveform:
    wave: Waveform = np.repeat(block, 2, axis=1) if block.shape[1] == 1 else block.copy()
    return wave


def _narrow(wave: Waveform | None, channels: int) -> Waveform:
    assert wave is not None
    return wave.mean(axis=1, keepdims=True) if channels == 1 else wave
