"""Throughput of the feature job against Spleeter's own and against a bound.

    python benchmarks/features.py CORPUS_ROOT [--spleeter-python PYTHON]

In one run and on the same WAV files: (a) our job, uint8, two processes, outputs hashed and
synced; (b) Spleeter 2.4.2's dataset filling its uint8 cache, in a virtual environment that
this script makes (or that PYTHON belongs to); (c) the bound: reading, real FFTs and writing
as many bytes, and nothing else, in two processes that already run, once with samples read as
soundfile's float32 and once as int16, which is six times as fast and what our job does.
Audio-seconds are seconds of five-source audio transformed. Medians of three runs. Then our job
on 1, 4 and 16 times the songs, and the largest worker's memory on a song of 1 and of 60 minutes.
"""

import argparse
import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("mixture", "vocals", "drums", "bass", "other")
RUNS = 3
FACTORS = (1, 4, 16)
PROCESSES = 2
TWO = ("--direct_running_mode=multi_processing", f"--direct_num_workers={PROCESSES}")
MUSDB18_TRAIN_S = 86 * 6.3 * 3600 / 100  # the 86 songs that are trained on
FRAMES = 32  # at once, for the bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    parser.add_argument("--spleeter-python", type=Path, help="of an environment with Spleeter")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        songs = decode(arguments.corpus.resolve(), root / "decode")
        spleeter = arguments.spleeter_python or make_spleeter(root / "spleeter")
        projects = {factor: multiply(songs, factor, root / f"x{factor}") for factor in FACTORS}
        csv = write_csv(songs, root)
        ours, theirs = [], []
        bounds: dict[str, list[float]] = {"float32": [], "int16": []}
        for _ in range(RUNS):
            ours.append(our_rate(projects[16]))
            theirs.append(spleeter_rate(spleeter, csv, root / "cache"))
            for dtype, rates in bounds.items():
                rates.append(bound_rate(projects[16] / "hq", root / "bound", dtype))
        scaling = {factor: our_rate(projects[factor])["wall_s"] for factor in (1, 4)}
        memory = {
            minutes: peak_memory(songs[0], minutes, root / f"m{minutes}") for minutes in (1, 60)
        }
    report(ours, theirs, bounds, scaling, memory)


def report(
    ours: list[dict[str, float]],
    theirs: list[float],
    bounds: dict[str, list[float]],
    scaling: dict[int, float],
    memory: dict[int, float],
) -> None:
    audio_s = ours[0]["audio_s"]
    wall_s = statistics.median(run["wall_s"] for run in ours)
    cpu_s = statistics.median(run["cpu_s"] for run in ours)
    rate, peer = audio_s / wall_s, statistics.median(theirs)
    print("| job | audio-s per s | ratio |\n| --- | --- | --- |")
    print(f"| (a) stemforge, {audio_s:.0f} s, two processes | {rate:.0f} | 1 |")
    print(f"| (b) Spleeter 2.4.2 filling its cache | {peer:.1f} | (a) is {rate / peer:.1f}x |")
    for dtype, rates in bounds.items():
        bound = statistics.median(rates)
        what = f"(c) reading as {dtype}, FFTs, writing alone"
        print(f"| {what} | {bound:.0f} | (a) is {rate / bound:.0%} |")
    print("\n| songs | audio, s | wall, s |\n| --- | --- | --- |")
    for factor, seconds in {**scaling, 16: wall_s}.items():
        print(f"| {factor}x | {audio_s * factor / 16:.0f} | {seconds:.1f} |")
    slope = (wall_s - scaling[4]) / (audio_s * 12 / 16)
    start = scaling[4] - slope * audio_s * 4 / 16
    print(f"\n{1 / slope:.0f} audio-s per s after {start:.1f} s of starting")
    print(f"1x as that line says: {start + slope * audio_s / 16:.1f} s")
    for minutes, peak in memory.items():
        print(f"peak memory of a worker, song of {minutes} min: {peak:.0f} MB")
    print(f"MUSDB18's 86 training songs: {start + slope * MUSDB18_TRAIN_S:.0f} s on this machine")
    print(f"CPU: {cpu_s / audio_s * 1000:.1f} ms per audio-second")


def decode(corpus: Path, project: Path) -> list[Path]:
    """Folders of WAV files of every song in a corpus, by our own decode stage."""
    write_params(project, corpus)
    subprocess.run([sys.executable, "-m", "stemforge.pipelines.decode"], cwd=project, check=True)
    return sorted(path.parent for path in project.rglob("mixture.wav"))


def write_params(project: Path, corpus: Path, **validity: float) -> None:
    project.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"]["root"] = str(corpus)
    params["features"].update({"encoding": "uint8", "shards": 16})
    params["features"]["validity"].update(validity)
    yaml.dump(params, project / "params.yaml")


def make_spleeter(folder: Path) -> Path:
    """A virtual environment with Spleeter 2.4.2, which needs TensorFlow 2.12."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "spleeter==2.4.2"], check=True)
    return python


def multiply(songs: list[Path], factor: int, project: Path) -> Path:
    """A project whose corpus holds every song `factor` times, by links."""
    for copy in range(factor):
        for song in songs:
            folder = project / "hq" / "train" / f"{song.name} {copy}"
            folder.mkdir(parents=True)
            for source in SOURCES:
                (folder / f"{source}.wav").symlink_to(song / f"{source}.wav")
    write_params(project, project / "hq")
    subprocess.run([sys.executable, "-m", "stemforge.pipelines.decode"], cwd=project, check=True)
    return project


def write_csv(songs: list[Path], root: Path) -> Path:
    lines = ["mix_path,vocals_path,drums_path,bass_path,other_path,duration"]
    for song in songs:
        seconds = soundfile.info(song / "mixture.wav").duration
        paths = [str((song / f"{source}.wav").relative_to(root)) for source in SOURCES]
        lines.append(",".join([*paths, str(seconds)]))
    csv = root / "train.csv"
    csv.write_text("\n".join(lines) + "\n")
    return csv


def our_rate(project: Path) -> dict[str, float]:
    """Wall and CPU seconds of the whole command, workers' start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = [sys.executable, "-m", "stemforge.pipelines.compute_features", *TWO]
    subprocess.run(command, cwd=project, check=True, env=environment())
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    info = json.loads((project / "data/features/info.json").read_text())
    frames = sum(split["frames_kept"] for split in info["splits"].values())
    shutil.rmtree(project / "data" / "features")
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall_s": wall_s, "cpu_s": cpu_s, "audio_s": frames * 1024 / 44100}


@functools.cache
def environment() -> dict[str, str]:
    """With our interpreter's folder and ffmpeg on PATH, which Spleeter needs too."""
    # Not imported here: this file's own name hides the package.
    script = "import os, stemforge.features.ffmpeg as f; f.find_ffmpeg(); print(os.environ['PATH'])"
    found = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{found.stdout.strip()}"
    return {**os.environ, "PATH": path}


def spleeter_rate(python: Path, csv: Path, cache: Path) -> float:
    """Audio-seconds per second of Spleeter's first epoch."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    script = ROOT / "benchmarks" / "spleeter_cache.py"
    done = subprocess.run(
        [python, script, csv, cache / "c"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    audio_s, seconds = map(float, done.stdout.split()[-2:])
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
    return frames / len(SOURCES) * 1024 / 44100


def peak_memory(song: Path, minutes: int, project: Path) -> float:
    """Largest resident memory of a worker in MB, on one song of that length."""
    corpus = project / "hq"
    long = corpus / "train" / "long"
    long.mkdir(parents=True)
    waveform, rate = soundfile.read(song / "mixture.wav", dtype="int16")
    with soundfile.SoundFile(long / "mixture.wav", "w", rate, 2) as file:
        for _ in range(round(minutes * 60 * rate / len(waveform))):
            file.write(waveform)
    for source in SOURCES[1:]:
        (long / f"{source}.wav").symlink_to(long / "mixture.wav")
    other = corpus / "train" / "short"
    other.mkdir()
    for source in SOURCES:
        (other / f"{source}.wav").symlink_to(song / f"{source}.wav")
    work = project / "work"
    write_params(work, corpus, max_residual_db=20.0)
    subprocess.run([sys.executable, "-m", "stemforge.pipelines.decode"], cwd=work, check=True)
    peaks = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peaks.extend(worker_peaks())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        our_rate(work)
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
