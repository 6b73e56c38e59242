"""What the benchmarks share: projects of a corpus, other processes, turns, tables, Spleeter."""

import argparse
import dataclasses
import functools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import soundfile
from ruamel.yaml import YAML

from stemforge.features.audio import ffmpeg
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.sources import MIXTURE, STEMS
from stemforge.pipelines.paths import TRACKS
from stemforge.unfinished import finishing

if TYPE_CHECKING:
    from stemforge.features.shards.reading import FeatureSet
    from stemforge.train.waveforms import Sound

ROOT = Path(__file__).resolve().parent.parent
RATE_HZ = SAMPLE_RATE_HZ
SOURCES = (MIXTURE, *STEMS)
SPLEETER = "Spleeter 2.4.2"
PAIR = ("vocals", "accompaniment")
POLL_S = 0.02
Key = TypeVar("Key", bound=Hashable)


def parser_of(documentation: str | None) -> argparse.ArgumentParser:
    """A command line whose help is a module's own documentation."""
    return argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")


def add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="keep decoded songs and features here, and use those of an earlier benchmark "
        "on the same corpus (default: a temporary folder)",
    )


def add_spleeter(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--spleeter-python",
        type=Path,
        metavar="PYTHON",
        help=f"of an environment with {SPLEETER} (default: one is made, by pip)",
    )
    group.add_argument("--without-spleeter", action="store_true", help="measure ours alone")


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder of `--work`, or a temporary one."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# Projects: folders with a params.yaml, in which stages run.


def stage(project: Path, name: str, *arguments: str) -> float:
    """Runs a stage in a separate process; returns wall-clock seconds, start included."""
    return _run(project, f"stages.{name}", *arguments)


def command(project: Path, *arguments: str) -> float:
    """Runs the `stemforge` command likewise."""
    return _run(project, "commands.main", *arguments)


def _run(project: Path, module: str, *arguments: str) -> float:
    line = [sys.executable, "-m", f"stemforge.pipelines.{module}", *arguments]
    return timed(lambda: subprocess.run(line, cwd=project, check=True, env=environment()))


def write_params(project: Path, corpus: Path, changes: Mapping[str, Any]) -> bool:
    """Writes the checkout's params.yaml with another corpus and other values.

    Returns:
        Whether the project had other parameters, or none.
    """
    project.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"]["root"] = str(corpus.resolve())
    merge(params, changes)
    path = project / "params.yaml"
    with finishing(path) as fresh:
        yaml.dump(params, fresh)
        same = path.exists() and path.read_bytes() == fresh.read_bytes()
    return not same


def merge(values: Any, changes: Mapping[str, Any]) -> None:
    """Changes values in place, section by section; a net of another kind has other fields."""
    for key, value in changes.items():
        old = values.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        if both and value.get("kind", old.get("kind")) == old.get("kind"):
            merge(old, value)
        else:
            values[key] = value


def make_features(corpus: Path, project: Path, *, copies: int = 0) -> Path:
    """Features of a corpus with the mixture's phase, from stages decode, copies and features.

    Those of an earlier call are used again where the corpus and the parameters are the same.

    Args:
        corpus: its folder.
        project: with data/ and params.yaml.
        copies: of each training song in another pitch and tempo.
    """
    values = {"encoding": "uint8", "shards": 16, "mixture_phase": "int8"}
    changes = {"features": values, "copies": {"per_song": copies}}
    changed = write_params(project, corpus, changes)
    features = project / "data" / "features"
    if changed or not (features / "info.json").exists():
        # Where this run is killed, the next begins anew.
        (features / "info.json").unlink(missing_ok=True)
        for name in ("decode", "copies", "features"):
            stage(project, name)
    return features


def sound_of(project: Path, features: "FeatureSet") -> "Sound":
    """The WAV files of a project that features were made from, to train on."""
    from stemforge.train.waveforms import find_sound  # it needs TensorFlow

    manifest = read_manifest(project / TRACKS)
    here = dataclasses.replace(manifest, audio_root=project / manifest.audio_root)
    return find_sound(features, here)


def songs_of(project: Path) -> list[Path]:
    """Folders of WAV files of every decoded song."""
    return sorted(path.parent for path in (project / "data" / "decoded").rglob("mixture.wav"))


# Vocals against the rest, on real music.


def vocals_and_rest(
    song: Path, start_s: float = 0.0, duration_s: float | None = None
) -> dict[str, Any]:
    """True stems of a MUSDB stem file, or of a part of it: float32 [samples, 2]."""
    ffmpeg.put_ffmpeg_on_path()
    import stempeg  # which looks for ffmpeg as it loads

    stems, _ = stempeg.read_stems(str(song), start=start_s, duration=duration_s, dtype=np.float32)
    _, drums, bass, other, vocals = stems
    return dict(zip(PAIR, (vocals, drums + bass + other), strict=True))


def medians(
    song: str, references: Mapping[str, Any], estimates: Mapping[str, Any], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Museval's scores per stem and metric: medians over frames of 1 s."""
    from stemforge.eval.scoring.scores import Scoring, score_track

    scoring = Scoring(window_s=1.0, hop_s=1.0, nan_policy="museval", accompaniment=False)
    found = score_track(song, references, estimates, sample_rate_hz=RATE_HZ, scoring=scoring)
    return {
        stem: {metric: float(np.nanmedian(frames[metric])) for metric in metrics}
        for stem, frames in found.frames.items()
    }


# Processes.


@functools.cache
def environment() -> dict[str, str]:
    """With our interpreter's folder and ffmpeg on PATH, which Beam and Spleeter look for there."""
    ffmpeg.put_ffmpeg_on_path()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def measure(command: Sequence[object], **variables: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command, which prints nothing here.

    The peak is read while it runs: what the system tells at its end (ru_maxrss) is at least the
    peak of this process, which started it.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command)],
        env=environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak_kb = 0
    while process.poll() is None:
        with suppress(OSError):  # it has just ended
            text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            peak_kb = max(peak_kb, *map(int, re.findall(r"^VmHWM:\s*(\d+)", text, re.M)), 0)
        time.sleep(POLL_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return seconds, peak_kb * 1024 / 1e6


@contextmanager
def server(*command: object) -> Iterator[Callable[[int], float]]:
    """A process that says `ready`, and for a number on its standard input prints seconds."""
    with subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        if stdout.readline() != "ready\n":
            raise RuntimeError(f"does not start: {process.args!r}")

        def run(amount: int) -> float:
            print(amount, file=stdin, flush=True)
            return float(stdout.readline())

        yield run


# A browser, and what it is served.


def chromium() -> str | None:
    """A Chromium on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def served(folder: Path, headers: Mapping[str, str]) -> Iterator[str]:
    """A web server of a folder on loopback, which also sends these headers; its address."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as web:
        thread = Thread(target=web.serve_forever, args=(POLL_S,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()
            thread.join()


# Turns and tables.


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def turn_by_turn(
    runs: Mapping[Key, Callable[[], float]], turns: int, *, warm_up: int = 0
) -> dict[Key, float]:
    """Medians of what runs return, all of them in each turn, so that a slow minute slows all."""
    found: dict[Key, list[float]] = {key: [] for key in runs}
    for turn in range(warm_up + turns):
        for key, run in runs.items():
            value = run()
            if turn >= warm_up:
                found[key].append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints Markdown, each row when it is known."""
    print(f"| {' | '.join(columns)} |")
    print(f"|{' --- |' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def against(peer: float | None, value: float, *, digits: int = 2) -> str:
    """How many times as fast as a peer, or nothing where it did not run."""
    return "" if peer is None else f"{peer / value:.{digits}f}x"


# Spleeter, in an environment of its own.


def spleeter_python(arguments: argparse.Namespace, folder: Path) -> Path | None:
    """The interpreter of `--spleeter-python`, or of an environment made here, or None."""
    if arguments.without_spleeter:
        return None
    if arguments.spleeter_python is not None:
        return Path(arguments.spleeter_python)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "spleeter==2.4.2"], check=True)
    return python


def spleeter_script(python: Path, name: str) -> list[object]:
    """The start of a command that runs one of our scripts in Spleeter's environment."""
    return [python, ROOT / "benchmarks" / f"spleeter_{name}.py"]


def spleeter_output(python: Path, name: str, *arguments: object) -> list[str]:
    """Lines that such a script prints."""
    command = [*map(str, (*spleeter_script(python, name), *arguments))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    return done.stdout.splitlines()


def write_csv(songs: Sequence[Path], root: Path) -> Path:
    """Spleeter's list of training songs, with paths relative to `root`."""
    lines = [",".join(["mix_path", *(f"{stem}_path" for stem in STEMS), "duration"])]
    for song in songs:
        seconds = soundfile.info(song / "mixture.wav").duration
        paths = [str((song / f"{source}.wav").relative_to(root)) for source in SOURCES]
        lines.append(",".join([*paths, str(seconds)]))
    csv = root / "train.csv"
    csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return csv
