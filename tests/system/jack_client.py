"""Plays an array through JACK and keeps what comes back: python -m ... WAVE.npy HEARD.npy.

It prints "ready", and begins at the first line of its standard input. In a process of its own,
since PortAudio knows only servers that run when it is loaded.
"""

import sys
import threading
from typing import Any

import numpy as np
import sounddevice

from tests.conftest import RATE_HZ


def main() -> None:
    wave = np.load(sys.argv[1])
    heard = np.zeros_like(wave)
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

    options = {"samplerate": RATE_HZ, "channels": 2, "dtype": "float32", "latency": "low"}
    with sounddevice.Stream(callback=callback, **options):
        print("ready", flush=True)
        sys.stdin.readline()
        begun.set()
        done.wait()
    np.save(sys.argv[2], heard)


if __name__ == "__main__":
    main()
