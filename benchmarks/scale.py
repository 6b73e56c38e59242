"""How cost grows with the work: separation, features, training input and scoring.

    python -m benchmarks.scale [--model spleeter:2stems] [--times 1 4 16] [--turns 3] [--plot FILE]

Each job is a process of its own, at one, four and sixteen times the same work: a song of 15 s
and longer ones; songs of 15 s, two for the features; 50 batches of 4 training windows of 128
frames; a track of 15 s and longer ones to score. Seconds are of the clock, start-up included;
CPU-seconds of all its processes; memory is the peak of the process that was started. Medians of
the turns. The exponents are the slopes between the two largest sizes in logarithms: 1 where twice
the work costs twice as much, 0 where it costs the same. --plot draws them.
"""

import math
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import bss_eval, common
from benchmarks.common import RATE_HZ, SOURCES
from benchmarks.features import FEATURES, link
from stemforge.features.corpus import starter
from stemforge.features.corpus.sources import STEMS
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained.catalogue import DEFAULT

THIS = (sys.executable, "-m", "benchmarks.scale")
STEMFORGE = (sys.executable, "-m", "stemforge.pipelines.commands.main")
UNIT_S = 15
BATCHES = 50  # in a unit of training input
FRAMES = 128  # of a training window
QUANTITIES = ("seconds", "CPU-seconds", "memory, MB")
Point = tuple[float, float, float]  # in the order of the quantities
Job = Callable[[int], Sequence[object]]


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("--model", default=DEFAULT, help="(%(default)s)")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="(1 4 16)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the table, as PNG or SVG")
    arguments = parser.parse_args(argv)
    if min(arguments.times) < 1 or len(set(arguments.times)) < len(arguments.times):
        parser.error("--times: different numbers, 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        jobs = prepare(Path(folder), arguments.model, arguments.times)
        found = {name: run(job, arguments.times, arguments.turns) for name, job in jobs.items()}
    common.print_table(["job", "work", *QUANTITIES, "exponents"], rows(found))
    print(f"\n{os.cpu_count()} cores")
    if arguments.plot:
        draw(found, arguments.plot)


def prepare(root: Path, model: str, times: Sequence[int]) -> dict[str, Job]:
    """The jobs' inputs, and the jobs: from how many units of work to a command."""
    palette = starter.TRAIN
    song = starter.generate_song(np.random.default_rng(1), palette, duration_s=float(UNIT_S))
    folder = root / "song"
    folder.mkdir()
    for source in SOURCES:
        soundfile.write(folder / f"{source}.wav", song[source], RATE_HZ, subtype="PCM_16")
    for count in times:
        longer = np.tile(song["mixture"], (count, 1))
        soundfile.write(root / f"{count}.wav", longer, RATE_HZ, subtype="PCM_16")
        (root / f"songs-{count}").mkdir()
        for copy in range(count):
            (root / f"songs-{count}" / f"{copy}.wav").symlink_to(folder / "mixture.wav")
        project = root / f"project-{count}"
        for copy in range(2 * count):  # one of two is held out for validation
            link(folder, project / "hq" / "train" / f"Song {copy}")
        common.write_params(project, project / "hq", {"features": FEATURES})
        common.stage(project, "decode")
        np.save(root / f"{count}.npy", bss_eval.track(UNIT_S * count))
    inputs = root / f"project-{min(times)}" / "data" / "features"
    common.command(root / f"project-{min(times)}", "features")

    def separate(source: object) -> list[object]:
        return [*STEMFORGE, "separate", source, "--model", model, "--overwrite",
                "--output", root / "stems"]  # fmt: skip

    score = [sys.executable, "-m", "benchmarks.bss_eval", "run", "stemforge"]
    return {
        "separate a song": lambda count: separate(root / f"{count}.wav"),
        "separate songs": lambda count: separate(root / f"songs-{count}"),
        "features of songs": lambda count: [*THIS, "features", root / f"project-{count}"],
        "training input": lambda count: [*THIS, "read", inputs, BATCHES * count],
        "score a track": lambda count: [*score, root / f"{count}.npy", root / "scores.npz"],
    }


def run(job: Job, times: Sequence[int], turns: int) -> dict[int, Point]:
    """What each amount of work takes: medians."""
    found: dict[int, list[Point]] = {count: [] for count in times}
    for _ in range(turns):
        for count in times:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds, memory_mb = common.measure(job(count))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found[count].append((seconds, cpu_s, memory_mb))
    return {
        count: (median(points, 0), median(points, 1), median(points, 2))
        for count, points in found.items()
    }


def median(points: Sequence[Point], quantity: int) -> float:
    return statistics.median(point[quantity] for point in points)


def exponents(points: Mapping[int, Point]) -> list[float]:
    """Slopes between the two largest sizes, in logarithms."""
    if len(points) < 2:
        return []
    smaller, larger = sorted(points)[-2:]
    return [
        math.log(points[larger][n] / points[smaller][n]) / math.log(larger / smaller)
        for n in range(len(QUANTITIES))
    ]


def rows(found: Mapping[str, Mapping[int, Point]]) -> list[list[str]]:
    made = []
    for name, points in found.items():
        slopes = ", ".join(f"{slope:.2f}" for slope in exponents(points))
        for count, (seconds, cpu_s, memory_mb) in points.items():
            last = slopes if count == max(points) else ""
            made.append(
                [name, f"{count}x", f"{seconds:.2f}", f"{cpu_s:.2f}", f"{memory_mb:.0f}", last]
            )
    return made


def draw(found: Mapping[str, Mapping[int, Point]], path: Path) -> None:
    """All jobs in one panel a quantity, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for number, quantity in enumerate(QUANTITIES):
        axes = figure.add_subplot(1, len(QUANTITIES), number + 1)
        for name, points in found.items():
            sizes = sorted(points)
            axes.plot(sizes, [points[n][number] for n in sizes], "o-", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(sizes, [f"{n}x" for n in sizes])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("work")
        axes.set_title(quantity)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def compute(project: Path) -> None:
    """Computes a project's features, in this process."""
    os.chdir(project)  # where its params.yaml is
    shutil.rmtree("data/features", ignore_errors=True)
    raise SystemExit(cli.main(["features"]))


def read(features: Path, batches: int) -> None:
    """Reads training batches, as the trainer does."""
    import tensorflow as tf

    from stemforge.features.shards.reading import FeatureSet
    from stemforge.train.dataset import Dataset

    tf.config.experimental.enable_op_determinism()
    dataset = Dataset(
        FeatureSet.open(str(features)), stems=STEMS[:1], window_frames=FRAMES, batch_size=4
    )
    for _ in dataset.training(sampling="windows", seed=1, start_step=0, steps=batches):
        pass


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        read(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["features"]:
        compute(Path(sys.argv[2]))
    else:
        main()
