"""Throughput of the feature job against Spleeter's own and against a bound.

    python -m benchmarks.features CORPUS_ROOT [--spleeter-python PYTHON | --without-spleeter]

In one run and on the same WAV files: (a) our job, uint8, two processes, outputs hashed and
synced; (b) Spleeter 2.4.2's dataset filling its uint8 cache, in a virtual environment that
this script makes (or that PYTHON belongs to); (c) the bound: only reading, real FFTs and writing
the same number of bytes, in two processes that already run. It reads samples once as soundfile's
float32 and once as int16, which is six times as fast and what our job does.
Audio-seconds are seconds of five-source audio transformed. Medians of the runs on the most
copies of the songs. Then our job on fewer copies, and the largest worker's memory on songs
of several lengths.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import soundfile

from benchmarks import common
from benchmarks.common import RATE_HZ, SOURCES, SPLEETER

PROCESSES = 2
TWO = ("--direct_running_mode=multi_processing", f"--direct_num_workers={PROCESSES}")
DTYPES = ("float32", "int16")
MUSDB18_TRAIN_S = 86 * 6.3 * 3600 / 100  # the 86 songs that are trained on
FRAMES = 32  # at once, for the bound
FEATURES: dict[str, Any] = {"encoding": "uint8", "shards": 16}


@dataclass(frozen=True)
class Job:
    """One run of ours: seconds of the clock and of CPUs, and of music in it."""

    wall_s: float
    cpu_s: float
    audio_s: float


@dataclass
class Found:
    """What was measured; rates are audio-seconds per second."""

    ours: list[Job] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    bounds: dict[str, list[float]] = field(default_factory=lambda: {d: [] for d in DTYPES})
    scaling: dict[int, Job] = field(default_factory=dict)
    memory_mb: dict[float, float] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_spleeter(parser)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--copies", type=int, nargs="+", default=[1, 4, 16], help="of all songs (1 4 16)"
    )
    parser.add_argument(
        "--minutes", type=float, nargs="*", default=[1, 60], help="of long songs (1 60)"
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        report(compare(arguments, Path(folder)))


def compare(arguments: argparse.Namespace, root: Path) -> Found:
    common.write_params(root / "decode", arguments.corpus, {})
    common.stage(root / "decode", "decode")
    songs = common.songs_of(root / "decode")
    spleeter = common.spleeter_python(arguments, root / "spleeter")
    projects = {copies: multiply(songs, copies, root / f"x{copies}") for copies in arguments.copies}
    most = max(projects)
    csv = common.write_csv(songs, root)
    found = Found()
    for _ in range(arguments.runs):
        found.ours.append(run_job(projects[most]))
        if spleeter:
            found.theirs.append(spleeter_rate(spleeter, csv, root / "cache"))
        for dtype, rates in found.bounds.items():
            rates.append(bound_rate(projects[most] / "hq", root / "bound", dtype))
    found.scaling = {n: run_job(project) for n, project in projects.items() if n < most}
    found.scaling[most] = sorted(found.ours, key=lambda job: job.wall_s)[len(found.ours) // 2]
    for minutes in arguments.minutes:
        found.memory_mb[minutes] = peak_memory(songs[0], minutes, root / f"m{minutes}")
    return found


def report(found: Found) -> None:
    middle = found.scaling[max(found.scaling)]
    rate = middle.audio_s / middle.wall_s
    rows = [(f"(a) stemforge, {middle.audio_s:.0f} s, two processes", f"{rate:.0f}", "1")]
    if found.theirs:
        peer = statistics.median(found.theirs)
        rows.append(
            (f"(b) {SPLEETER} filling its cache", f"{peer:.1f}", f"(a) is {rate / peer:.1f}x")
        )
    for dtype, rates in found.bounds.items():
        bound = statistics.median(rates)
        what = f"(c) reading as {dtype}, FFTs, writing alone"
        rows.append((what, f"{bound:.0f}", f"(a) is {rate / bound:.0%}"))
    common.print_table(("job", "audio-s per s", "ratio"), rows)
    print()
    jobs = [(f"{n}x", f"{j.audio_s:.0f}", f"{j.wall_s:.1f}") for n, j in found.scaling.items()]
    common.print_table(("songs", "audio, s", "wall, s"), jobs)
    if len(found.scaling) > 1:
        report_line(found.scaling)
    for minutes, peak_mb in found.memory_mb.items():
        print(f"peak memory of a worker, song of {minutes:g} min: {peak_mb:.0f} MB")
    print(f"CPU: {middle.cpu_s / middle.audio_s * 1000:.1f} ms per audio-second")


def report_line(scaling: dict[int, Job]) -> None:
    """The line through the two largest jobs, and its prediction for others."""
    smaller, larger = (scaling[copies] for copies in sorted(scaling)[-2:])
    slope = (larger.wall_s - smaller.wall_s) / (larger.audio_s - smaller.audio_s)
    start_s = smaller.wall_s - slope * smaller.audio_s
    least = scaling[min(scaling)].audio_s
    print(f"\n{1 / slope:.0f} audio-s per s after {start_s:.1f} s of starting")
    print(f"{min(scaling)}x as that line says: {start_s + slope * least:.1f} s")
    print(f"MUSDB18's 86 training songs: {start_s + slope * MUSDB18_TRAIN_S:.0f} s")


def multiply(songs: list[Path], copies: int, project: Path) -> Path:
    """A project whose corpus holds every song several times, by links."""
    for copy in range(copies):
        for song in songs:
            link(song, project / "hq" / "train" / f"{song.name} {copy}")
    common.write_params(project, project / "hq", {"features": FEATURES})
    common.stage(project, "decode")
    return project


def link(song: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for source in SOURCES:
        (folder / f"{source}.wav").symlink_to(song / f"{source}.wav")


def run_job(project: Path) -> Job:
    """Runs our whole command, workers' start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall_s = common.command(project, "features", *TWO)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    info = json.loads((project / "data/features/info.json").read_text(encoding="utf-8"))
    frames = sum(split["frames_kept"] for split in info["splits"].values())
    shutil.rmtree(project / "data" / "features")
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Job(wall_s, cpu_s, frames * 1024 / RATE_HZ)


def spleeter_rate(python: Path, csv: Path, cache: Path) -> float:
    """Audio-seconds per second of Spleeter's first epoch."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    *_, last = common.spleeter_output(python, "cache", csv, cache / "c")
    audio_s, seconds = map(float, last.split())
    return audio_s / seconds


def bound_rate(corpus: Path, out: Path, dtype: str) -> float:
    """Audio-seconds per second of reading, real FFTs and writing alone."""
    songs = sorted((corpus / "train").iterdir())
    out.mkdir()
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(abs, range(PROCESSES)))  # the processes are there before the clock runs
        started = time.perf_counter()
        audio_s = sum(
            pool.map(bound_song, songs, [out / song.name for song in songs], [dtype] * len(songs))
        )
        seconds = time.perf_counter() - started
    shutil.rmtree(out)
    return audio_s / seconds


def bound_song(song: Path, out: Path, dtype: str) -> float:
    block = 512
    span = (block - 1) * 1024 + 4096
    frames = 0
    written = np.zeros((block, 1024, 2), np.uint8).tobytes()
    with out.open("wb") as file:
        for source in SOURCES:
            with soundfile.SoundFile(song / f"{source}.wav") as audio:
                count = 1 + (audio.frames - 4096) // 1024
                for start in range(0, count, block):
                    here = min(block, count - start)
                    audio.seek(start * 1024)
                    samples = audio.read(span, dtype=dtype, always_2d=True)
                    waveform = np.ascontiguousarray(samples.T, np.float32)
                    windows = np.lib.stride_tricks.sliding_window_view(waveform, 4096, axis=1)
                    windows = windows[:, ::1024][:, :here]
                    for first in range(0, here, FRAMES):
                        scipy.fft.rfft(windows[:, first : first + FRAMES], axis=-1)
                    file.write(written[: here * 2048])
                    frames += here
        file.flush()
        os.fsync(file.fileno())
    return frames / len(SOURCES) * 1024 / RATE_HZ


def peak_memory(song: Path, minutes: float, project: Path) -> float:
    """Largest resident memory of a worker in MB, on one song of that length."""
    corpus = project / "hq"
    long = corpus / "train" / "long"
    long.mkdir(parents=True)
    waveform, rate = soundfile.read(song / "mixture.wav", dtype="int16")
    with soundfile.SoundFile(long / "mixture.wav", "w", rate, 2) as file:
        for _ in range(max(1, round(minutes * 60 * rate / len(waveform)))):
            file.write(waveform)
    for source in SOURCES[1:]:
        (long / f"{source}.wav").symlink_to(long / "mixture.wav")
    link(song, corpus / "train" / "short")
    work = project / "work"
    validity = {"max_residual_db": 20.0}  # its mixture is not the sum of its stems
    common.write_params(work, corpus, {"features": FEATURES | {"validity": validity}})
    common.stage(work, "decode")
    peaks = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peaks.extend(worker_peaks())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_job(work)
    finally:
        done.set()
        watcher.join()
    return max(peaks)


def worker_peaks() -> list[float]:
    """Peak resident memory in MB of each Beam worker that runs now."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"sdk_worker_main" not in (entry / "cmdline").read_bytes():
                continue
            for line in (entry / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    found.append(float(line.split()[1]) * 1024 / 1e6)
        except OSError:
            continue  # ended meanwhile
    return found


if __name__ == "__main__":
    main()
