"""`stemforge live` through a real sound server: JACK's dummy device, and clients around it."""

import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.jack import client, server, wait_until
from stemforge.eval.exports import files as export
from stemforge.eval.separation.separator import Separator
from stemforge.train.model_files import find_tflite, tflite_name
from tests.conftest import RATE_HZ
from tests.processes import CLI, environment, stemforge
from tests.test_runtimes_tensorflow import NETS, trained
from tests.test_separation_live import noise

pytestmark = pytest.mark.system
SERVER = "stemforge-tests"
PERIOD = 256
SIZES = ("--frames", "32", "--hop", "8", "--lookahead", "2", "--reserve-ms", "1500")
DEVICES = ("--input", "system", "--output", "system")  # JACK's, where there are others, too
LATENCY = 4096 - 1 + (8 - 1 + 2) * 1024
RESERVE = round(1.5 * RATE_HZ)


@pytest.fixture
def jack() -> Iterator["subprocess.Popen[bytes]"]:
    """A sound server of our own without hardware."""
    if not shutil.which("jackd") or not shutil.which("jack_connect"):
        pytest.skip("no jackd here: Debian's packages jackd2 and libportaudio2")
    try:
        import sounddevice  # noqa: F401
    except OSError as error:
        pytest.skip(f"no PortAudio here: {error}")
    with server(SERVER, period=PERIOD) as process:
        yield process


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    for number, stem in enumerate(("vocals", "rest")):
        model = trained(NETS["4stems"], (stem,), seed=number)
        (root / stem).mkdir()
        path = root / stem / tflite_name(stem, "float32")
        path.write_bytes(export.to_tflite(model))
    return root


@contextmanager
def running(folder: Path, *flags: object) -> Iterator["subprocess.Popen[str]"]:
    """The command, once it hears something."""
    process = subprocess.Popen(
        [*CLI, "live", *DEVICES, *map(str, flags)],
        cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, text = process.communicate(timeout=60)
    return process.returncode, text


def begun(process: "subprocess.Popen[str]") -> str:
    """Its first lines, which it prints when it hears something."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("live: "), line
    return line + process.stderr.readline()


def is_growing(folder: Path) -> bool:
    """Whether a quarter of a second is recorded in each of its files."""
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return len(sizes) == 2 and min(sizes) > RATE_HZ


def test_devices_are_listed(jack: object, tmp_path: Path) -> None:
    found = stemforge(tmp_path, "live", "--list-devices").stdout
    assert "system, JACK Audio Connection Kit (2 in, 2 out, 44100 Hz)" in found


def test_the_loop_is_sample_exact_and_as_late_as_stated(
    jack: object, exports: Path, tmp_path: Path
) -> None:
    """Sound goes through the server into the command, and back as the engine alone makes it."""
    wave = np.zeros((5 * RATE_HZ, 2), np.float32)
    wave[: 2 * RATE_HZ] = 0.3 * noise(2 * RATE_HZ)
    flags = ["--model", exports, *SIZES, "--mix", "rest=0.5"]
    with client(tmp_path) as send_around, running(tmp_path, *flags) as process:
        text = begun(process)
        heard = send_around(wave)
        process.send_signal(signal.SIGINT)
        code, rest = ended(process)
    text += rest
    assert code == 0, text
    assert f"ms ({1000 * LATENCY / RATE_HZ:.0f} windows, 1500 reserve, " in text
    assert " devices): 32 frames, hop 8, lookahead 2; computing " in text
    assert " s; 0 blocks were late, 0.0 s lost; the sound server dropped out " in text
    separator = Separator.load(find_tflite(exports), runtime="litert", frames=32)
    found = []
    hop = 8 * 1024 // PERIOD
    # Where in a hop the sound began is not known; before it there was silence.
    for periods in range(2 * hop, 3 * hop):
        engine = separator.start_live(hop=8, lookahead=2, channels=2, sample_rate_hz=RATE_HZ)
        before = np.zeros((periods * PERIOD, 2), np.float32)
        outputs = engine.push(np.concatenate([before, wave]))
        mix = (outputs["vocals"] + np.float32(0.5) * outputs["rest"])[len(before) :]
        assert engine.latency == LATENCY
        for more in range(5):  # the way through the server
            late = RESERVE + more * PERIOD
            error = np.abs(heard[late:] - mix[: len(heard) - late]).max()
            found += [(periods, more)] * bool(error < 1e-6)
    assert [more for _, more in found] == [1]


def test_the_machine_is_measured_and_the_choice_told(
    jack: object, exports: Path, tmp_path: Path
) -> None:
    flags = ["--model", exports, "--latency-ms", "3000", "--record", "stems"]
    with running(tmp_path, *flags) as process:
        text = begun(process)
        wait_until(lambda: is_growing(tmp_path / "stems"))
        process.send_signal(signal.SIGINT)
        code, _ = ended(process)
    assert code == 0
    found = re.search(
        r"latency (\d+) ms \((\d+) windows, (\d+) reserve, (\d+) devices\): (64|128|256) frames, "
        r"hop (\d+), lookahead (\d+); computing \d+ % of the time",
        text,
    )
    assert found is not None, text
    latency, windows, reserve, devices, _, hop, lookahead = map(int, found.groups())
    assert windows == round(1000 * (4096 - 1 + (hop - 1 + lookahead) * 1024) / RATE_HZ)
    assert latency == pytest.approx(windows + reserve + devices, abs=2)
    assert latency <= 3000
    with running(tmp_path, "--model", exports, "--latency-ms", "100") as process:
        code, text = ended(process)
    assert code == 2
    assert re.search(r"error: --latency-ms 100: \d+ ms is the least here, where the nets", text)


def test_recorded_files_are_whole_after_a_signal(
    jack: object, exports: Path, tmp_path: Path
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        flags = ["--model", exports, *SIZES, "--record", f"stems-{number}"]
        with running(tmp_path, *flags) as process:
            begun(process)
            wait_until(functools.partial(is_growing, tmp_path / f"stems-{number}"))
            process.send_signal(number)
            code, text = ended(process)
        assert code == (0 if number == signal.SIGINT else 128 + number), text
        names = sorted(os.listdir(tmp_path / f"stems-{number}"))
        assert names == ["rest.wav", "vocals.wav"]
        frames = {soundfile.info(tmp_path / f"stems-{number}" / name).frames for name in names}
        assert len(frames) == 1
        assert min(frames) > RATE_HZ / 4


def test_a_server_that_stops_is_one_line(
    jack: "subprocess.Popen[bytes]", exports: Path, tmp_path: Path
) -> None:
    with running(tmp_path, "--model", exports, *SIZES, "--record", "stems") as process:
        begun(process)
        wait_until(lambda: is_growing(tmp_path / "stems"))
        jack.kill()
        code, text = ended(process)
    assert code == 2, text
    assert "no sound for 2 s: a device was disconnected, or its server has stopped" in text
    assert soundfile.info(tmp_path / "stems" / "vocals.wav").frames > RATE_HZ / 4


def test_devices_that_are_not_there(jack: object, exports: Path, tmp_path: Path) -> None:
    for flags, message in (
        (["--input", "hdmi"], "--input 'hdmi': no such input device: --list-devices shows them"),
        (["--output", "99"], "--output '99': no such output device: --list-devices shows them"),
    ):
        done = stemforge(tmp_path, "live", "--model", str(exports), *SIZES, *flags, code=2)
        assert message in done.stderr
