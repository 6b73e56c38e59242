"""The parts of a live separation around the engine: thread, songs, recordings, keys."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.separation.live import Window
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.keys import Mixer, pressed_keys
from stemforge.pipelines.live.recording import Recorder
from stemforge.pipelines.live.session import Engine
from stemforge.pipelines.live.sources import Player, read_song
from tests.conftest import RATE_HZ
from tests.test_separation_live import noise, shares_live

WINDOW = Window(8, 4, 2)
LATENCY = 16 - 1 + 5 * 4


def recorder_of(paths: dict[str, Path], *, keep: bool = True) -> Recorder:
    return Recorder(paths, channels=2, sample_rate_hz=RATE_HZ, subtype="FLOAT", keep=keep)


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_thread_separates_what_is_heard_and_records_all_of_it(tmp_path: Path) -> None:
    exchange = Exchange(["a", "b"], channels=2, reserve=500, capacity=5000)
    exchange.set_gains({"a": 1.0, "b": 1.0})
    paths = {name: tmp_path / f"{name}.wav" for name in ("a", "b")}
    sound, out = noise(3000), []
    with (
        recorder_of(paths) as recorder,
        Engine(lambda: shares_live([0.25, 0.5], WINDOW), exchange, recorder.write) as engine,
    ):
        for start in range(0, 3000, 100):
            exchange.heard(sound[start : start + 100])
            if start < 2500:  # the rest is not separated yet when it ends
                wait_for(lambda end=start + 100: exchange._given == end)
            out.append(exchange.played(100))
    assert engine.error is None
    assert engine.busy_s > 0.0
    late = np.concatenate([np.zeros((500 + LATENCY, 2)), 0.75 * sound])[:3000]
    np.testing.assert_allclose(np.concatenate(out)[256:2500], late[256:2500], atol=1e-5)
    for name, share in (("a", 0.25), ("b", 0.5)):
        recorded, rate_hz = soundfile.read(paths[name])
        assert (rate_hz, recorded.shape) == (RATE_HZ, sound.shape)
        np.testing.assert_allclose(recorded, share * sound, atol=1e-5)


def test_what_is_lost_is_silence_in_the_recording(tmp_path: Path) -> None:
    exchange = Exchange(["a"], channels=2, reserve=100, capacity=1000)
    sound, go = noise(5000), threading.Event()

    def record(start: int, outputs: object) -> None:
        recorder.write(start, outputs)  # type: ignore[arg-type]
        go.wait(30.0)

    with (
        recorder_of({"a": tmp_path / "a.wav"}) as recorder,
        Engine(lambda: shares_live([1.0], WINDOW), exchange, record),
    ):
        exchange.heard(sound[:500])
        wait_for(lambda: exchange._given == 500)
        for start in range(500, 3000, 500):  # the thread waits in `record`
            exchange.heard(sound[start : start + 500])
        go.set()
        wait_for(lambda: exchange._taken == 3000)
        for start in range(3000, 5000, 500):
            exchange.heard(sound[start : start + 500])
            wait_for(lambda end=start + 500: exchange._given == end)
    assert exchange.lost == 2500
    recorded, _ = soundfile.read(tmp_path / "a.wav")
    assert recorded.shape == sound.shape
    np.testing.assert_allclose(recorded[:500], sound[:500], atol=1e-5)
    np.testing.assert_array_equal(recorded[500 : 3000 - LATENCY], 0.0)
    np.testing.assert_allclose(recorded[3256:], sound[3256:], atol=1e-5)  # it has faded in


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, waveform: object) -> int:
        raise soundfile.LibsndfileError(2)  # System error

    exchange = Exchange(["a"], channels=2, reserve=0, capacity=100)
    with recorder_of({"a": tmp_path / "new" / "a.wav"}) as recorder:
        monkeypatch.setattr("stemforge.features.audio.files.WavWriter.write", full)
        with Engine(lambda: shares_live([1.0], WINDOW), exchange, recorder.write) as engine:
            exchange.heard(noise(10))
            wait_for(lambda: engine.error is not None)
    assert isinstance(engine.error, UserError)
    assert str(engine.error).startswith(f"{tmp_path / 'new' / 'a.wav'}: cannot be written: ")
    assert not [*tmp_path.iterdir()]  # nothing was written


@pytest.mark.parametrize(("keep", "written"), [(True, 500), (True, 0), (False, 500)])
def test_what_an_error_leaves(tmp_path: Path, keep: bool, written: int) -> None:
    def fail() -> None:
        with recorder_of({"a": tmp_path / "new" / "stems" / "a.wav"}, keep=keep) as recorder:
            if written:
                recorder.write(0, {"a": noise(written)})
            raise UserError("no sound")

    with pytest.raises(UserError, match="no sound"):
        fail()
    if keep and written:
        assert soundfile.info(tmp_path / "new" / "stems" / "a.wav").frames == written
    else:
        assert not [*tmp_path.iterdir()]


def test_what_overlaps_is_written_once(tmp_path: Path) -> None:
    """After a loss a new song begins with zeros that belong where sound is already."""
    sound = noise(1000)
    with recorder_of({"a": tmp_path / "a.wav"}) as recorder:
        for start, end in ((-100, 400), (300, 350), (200, 700), (800, 1000)):
            recorder.write(
                start,
                {
                    "a": sound[max(0, start) : end]
                    if start >= 0
                    else np.concatenate([noise(100), sound[:end]])
                },
            )
    recorded, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    sound[700:800] = 0.0
    np.testing.assert_array_equal(recorded, sound)


def test_a_recording_ends_before_a_wav_file_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 GiB, after 3.4 hours of float: libsndfile would go on, with wrong sizes in the header."""
    monkeypatch.setattr("stemforge.features.audio.files.MOST_WAV_BYTES", 2 * 4 * 1000)
    sound = noise(1001)

    def too_long() -> None:
        with recorder_of({"a": tmp_path / "a.wav"}) as recorder:
            recorder.write(0, {"a": sound[:1000]})
            recorder.write(1000, {"a": sound[1000:]})

    with pytest.raises(UserError, match=r"a\.wav: a WAV file cannot be longer than 4 GiB: choose"):
        too_long()
    recorded, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(recorded, sound[:1000])


def test_what_is_clipped_is_counted(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.wav" for name in ("a", "b")}
    options: dict[str, Any] = {"channels": 2, "sample_rate_hz": RATE_HZ, "keep": True}
    with Recorder(paths, subtype="PCM_16", **options) as recorder:
        for start in (0, 100):
            recorder.write(start, {"a": np.full((100, 2), 1.5), "b": noise(100)})
    assert recorder.clipped == {"a": 400}


def test_a_file_that_cannot_be_opened_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(NotADirectoryError):
        recorder_of({"a": tmp_path / "new" / "a.wav", "b": tmp_path / "file" / "b.wav"})
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_an_error_of_the_thread_is_the_callers() -> None:
    exchange = Exchange(["a"], channels=2, reserve=0, capacity=100)

    def full(start: int, outputs: object) -> None:
        raise OSError(28, "No space left on device")

    with Engine(lambda: shares_live([1.0], WINDOW), exchange, full) as engine:
        exchange.heard(noise(10))
        wait_for(lambda: engine.error is not None)
    assert isinstance(engine.error, OSError)


@pytest.mark.parametrize("rate_hz", [44100, 22050])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_song_is_played_without_waiting(tmp_path: Path, rate_hz: int, channels: int) -> None:
    wave = 0.5 * noise(30_000, channels)
    soundfile.write(tmp_path / "song.wav", wave, rate_hz, subtype="FLOAT")
    blocks = read_song(tmp_path / "song.wav", sample_rate_hz=44100)
    found = []
    with Player(blocks) as player:
        wait_for(lambda: not player._thread.is_alive())
        while not player.ended:
            found.append(player.read(777))
        assert not player.read(100).any()
    assert (player.error, player.missing) == (None, 0)
    played = np.concatenate(found)
    samples = 30_000 * 44100 // rate_hz
    assert samples <= len(played) < samples + 2 * 777
    assert not played[samples:].any()
    if rate_hz == 44100:
        np.testing.assert_array_equal(played[:samples], np.broadcast_to(wave, (samples, 2)))


def test_a_song_that_breaks_off(tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield noise(10)
        raise UserError("song.mp3: damaged")

    with Player(blocks()) as player:
        wait_for(lambda: player.error is not None)
        assert len(player.read(20)) == 20
    assert str(player.error) == "song.mp3: damaged"


def test_a_player_that_nobody_reads_ends(tmp_path: Path) -> None:
    with Player(noise(4096) for _ in range(10_000)) as player:
        wait_for(player._queue.full)
    assert not player._thread.is_alive()


def test_six_channels_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "six.wav", noise(100, 6), 44100)
    with pytest.raises(UserError, match=r"six.wav: 6 channels: not supported: mix them to two"):
        read_song(tmp_path / "six.wav", sample_rate_hz=44100)


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.5]), 44100, subtype="FLOAT")
    with pytest.raises(UserError, match=r"nan.wav: 1 samples are not finite"):
        next(read_song(tmp_path / "nan.wav", sample_rate_hz=44100))


def test_a_stem_of_gain_0_can_be_turned_up() -> None:
    mixer = Mixer({"vocals": 0.0, "drums": 1.0})
    assert mixer.gains == {"vocals": 0.0, "drums": 1.0}
    mixer.press("m")
    assert mixer.gains == {"vocals": 1.0, "drums": 1.0}


def test_keys_change_the_mix() -> None:
    mixer = Mixer({"vocals": 1.0, "drums": 0.5})
    assert mixer.chosen == "vocals"
    for key in "m2+++x9":
        mixer.press(key)
    assert mixer.chosen == "drums"
    assert mixer.gains == {"vocals": 0.0, "drums": pytest.approx(0.5 * 10 ** (3 / 20))}
    assert [mixer.press(key) for key in "1m-z"] == [True, True, True, False]
    assert mixer.gains["vocals"] == pytest.approx(10 ** (-1 / 20))
    mixer.press("m")
    mixer.press("+")  # who turns it up wants to hear it
    assert mixer.gains["vocals"] == pytest.approx(1.0)


def test_without_a_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null", encoding="ascii") as null:
        monkeypatch.setattr("sys.stdin", null)
        with pressed_keys() as keys:
            assert [*keys] == []


def test_keys_of_a_terminal_come_without_return(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pty
    import termios

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, encoding="ascii") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("os.tcgetpgrp", lambda fd: os.getpgrp())
        before = termios.tcgetattr(theirs)
        with pressed_keys() as keys:
            assert [*keys] == []
            os.write(ours, b"1m+")
            pressed: list[str] = []
            while len(pressed) < 3:
                pressed += keys
            assert pressed == ["1", "m", "+"]
            assert [*keys] == []
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
