"""A JACK server without hardware, and a client that sends sound around through another one.

Needs Debian's packages jackd2 and libportaudio2, and the extra `live`.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RATE_HZ, ROOT, environment

ANSWER_S = 60.0
VARIABLE = "JACK_DEFAULT_SERVER"


@contextmanager
def server(name: str, *, period: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A server with a dummy device; while it runs, JACK_DEFAULT_SERVER leads to it.

    Args:
        name: of the server.
        period: samples of a block.
    """
    # Synchronous: on a busy machine it waits for its clients, and leaves out no block.
    command = ["jackd", "--name", name, "--no-realtime", "--sync", "--timeout", "10000"]
    command += ["-d", "dummy", "-r", str(RATE_HZ), "-p", str(period)]
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: "system:capture_1" in ports())
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(timeout=ANSWER_S)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    deadline = time.monotonic() + ANSWER_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def ports() -> str:
    """What jack_lsp says: all ports, and what they are connected to."""
    return subprocess.run(["jack_lsp", "-c"], capture_output=True, text=True).stdout


def client_of(text: str, *others: str) -> str:
    """The one client in what `ports` returns that is neither the system nor one of the others."""
    found = {line.partition(":")[0] for line in text.splitlines() if re.match(r"\S.*:", line)}
    (name,) = found - {"system", *others}
    return name


@contextmanager
def client(folder: Path) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """A client that sends sound around through the one other client that there is by then.

    Args:
        folder: for files.

    Yields:
        A function from float32 [samples, 2] to what comes back, from its start on.
    """
    # In a process of its own: PortAudio knows only servers that run when it is loaded.
    code = f"from benchmarks.jack import run_client; run_client({str(folder)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment() | os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the JACK client does not start")
        ours = client_of(ports())

        def send(wave: np.ndarray) -> np.ndarray:
            np.save(folder / "wave.npy", wave)
            _connect(ours, client_of(ports(), ours))
            process.communicate("go\n", timeout=ANSWER_S + len(wave) / RATE_HZ)
            return np.asarray(np.load(folder / "heard.npy"))

        yield send
    finally:
        process.kill()
        process.communicate()


def _connect(ours: str, theirs: str) -> None:
    """Our output to their input and back, and nothing else."""
    for name in (ours, theirs):
        for way in range(2):
            for own, system in ((f"{name}:out_{way}", "playback"), (f"{name}:in_{way}", "capture")):
                other = f"system:{system}_{way + 1}"
                pair = (own, other) if system == "playback" else (other, own)
                subprocess.run(["jack_disconnect", *pair], capture_output=True)
    for one, other in ((ours, theirs), (theirs, ours)):
        for way in range(2):
            command = ["jack_connect", f"{one}:out_{way}", f"{other}:in_{way}"]
            subprocess.run(command, check=True, capture_output=True)


def run_client(folder: str) -> None:
    """Plays wave.npy and keeps what comes back; begins at the first line of standard input."""
    import sounddevice

    wave = heard = np.zeros((0, 2), np.float32)
    begun, done = threading.Event(), threading.Event()
    position = 0

    def callback(indata: Any, outdata: Any, frames: int, when: Any, status: Any) -> None:
        nonlocal position
        outdata[:] = 0.0
        if not begun.is_set():
            return
        part = wave[position : position + frames]
        outdata[: len(part)] = part
        heard[position : position + frames] = indata[: len(part)]
        position += frames
        if position >= len(wave):
            done.set()

    options: dict[str, Any] = {"samplerate": RATE_HZ, "channels": 2, "dtype": "float32"}
    with sounddevice.Stream(callback=callback, latency="low", **options):
        print("ready", flush=True)
        if not sys.stdin.readline():
            return
        wave = np.load(Path(folder) / "wave.npy")
        heard = np.zeros_like(wave)
        begun.set()
        done.wait()
    np.save(Path(folder) / "heard.npy", heard)
