"""Steps of one stem's full-size net on one and two replicas of this machine.

    python -m benchmarks.distributed CORPUS_ROOT

Windows of 512 frames and 1024 bins in batches of 4, with input and with the workers'
synchronisation after each step: on one device, on one and two logical devices of one process
(mirrored), and in one and two processes (multi_worker). Two replicas share the cores that one
had, so all extra time is overhead. Medians over turns of the medians of a turn's steps; then an
estimate for larger clusters.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import common
from benchmarks.full_size import add_net, full_size, net_of, step_operations, training_config
from stemforge import tensorflow
from stemforge.errors import Interrupted
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.running.launch import LOGICAL_CPUS
from stemforge.pipelines.running.strategies import make_cluster
from stemforge.pipelines.running.supervisor import THREADS, free_ports
from stemforge.train.config import TF_CONFIG
from stemforge.train.dataset import Dataset
from stemforge.train.trainer import Report, Trainer

WARM_UP = 2
ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Case:
    """A strategy, with a number of processes and of logical devices in each."""

    strategy: str
    devices: int = 1
    processes: int = 1


CASES = {
    "one device": Case("default"),
    "one logical device": Case("mirrored"),
    "two logical devices": Case("mirrored", devices=2),
    "one process": Case("multi_worker"),
    "two processes": Case("multi_worker", processes=2),
}
# Assumptions of the estimate.
PARAMETERS = 9.8e6  # of one stem's net; gradients are float32
WINDOWS = 16  # of each replica
GPU_FLOPS = 40e12  # reached by a data-centre GPU in TF32 convolutions: a quarter of its peak
READ_PER_CORE = 3000  # audio-s/s of mixture and one stem: half of benchmarks.reader on two cores
CLUSTERS = (
    # name, replicas on each of this many machines, bytes/s between replicas, latency
    ("GPUs of one machine", ((1, 1), (2, 1), (4, 1), (8, 1)), 200e9, 10e-6),
    ("machines of one GPU, 25 Gbit/s", ((1, 2), (1, 4), (1, 8), (1, 16)), 25e9 / 8, 50e-6),
)


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    add_net(parser)
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=list(CASES), help="(all)", metavar="CASE"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of a turn (%(default)s)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # a process of a turn; its strategy
    arguments = parser.parse_args(argv)
    if arguments.worker:
        work(arguments.worker, arguments)
        return
    with common.work_folder(arguments.work) as root:
        features = common.make_features(arguments.corpus, root)
        options = [features, "--frames", arguments.frames, "--width", arguments.width,
                   "--steps", arguments.steps]  # fmt: skip
        found: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.cases}
        for _ in range(arguments.turns):
            for name, turns in found.items():
                turns.append(run(CASES[name], options))
    report(found)
    print_model()


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Medians over the turns; the first case is what the others are compared with."""
    rows: list[tuple[str, ...]] = []
    base_s = None
    for name, turns in found.items():
        step_s = statistics.median(turn["step"] for turn in turns)
        waiting = statistics.median(turn["waiting"] for turn in turns)
        base_s = base_s or step_s
        rows.append((name, f"{step_s:.2f}", f"{step_s / base_s:.2f}", f"{waiting:.1%}"))
    print()
    common.print_table(
        ("replicas", "step, s", f"of {next(iter(found))}'s", "waiting for input"), rows
    )


def run(case: Case, options: Sequence[object]) -> dict[str, float]:
    """One turn of a case, in separate processes."""
    addresses = [f"{ADDRESS}:{port}" for port in free_ports(case.processes)]
    command = [sys.executable, "-m", "benchmarks.distributed", *map(str, options)]
    processes = []
    for index in range(case.processes):
        environment = common.environment() | {
            LOGICAL_CPUS: str(case.devices),
            THREADS: str(max(1, (os.cpu_count() or 1) // case.processes)),
        }
        if case.strategy == "multi_worker":
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment[TF_CONFIG] = json.dumps(task)
        processes.append(
            subprocess.Popen(
                [*command, "--worker", case.strategy],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    printed = [process.communicate()[0] for process in processes]
    for process in processes:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    found: dict[str, float] = json.loads(printed[0])
    return found


def work(strategy: str, arguments: argparse.Namespace) -> None:
    """A worker's part of a turn; the chief prints what it took."""
    devices = int(os.environ[LOGICAL_CPUS])
    tensorflow.start(logical_cpus=devices, find_devices=TF_CONFIG not in os.environ)
    cluster = make_cluster(strategy)
    features = FeatureSet.open(str(arguments.corpus))
    net, config = net_of(arguments), training_config()
    stems = ("vocals",)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if cluster.is_chief else None
        trainer = Trainer(net, config, stems=stems, work=place, cluster=cluster)
        dataset = Dataset(
            features, stems=stems, window_frames=net.frames, batch_size=config.batch_size
        )
        ends: list[float] = []
        waiting: list[float] = []

        def report(report: Report) -> None:
            ends.append(time.perf_counter())
            waiting.append(report.waiting)

        enough = WARM_UP + arguments.steps
        with suppress(Interrupted):
            trainer.fit(dataset, report=report, should_stop=lambda: len(ends) >= enough)
        steps = [b - a for a, b in itertools.pairwise(ends[WARM_UP - 1 :])]
        if cluster.is_chief:
            print(json.dumps({"step": statistics.median(steps), "waiting": waiting[-1]}))
        cluster.wait()


def print_model() -> None:
    """Prints an estimate of the throughput of larger clusters, with its assumptions.

    A step is compute + all-reduce: the operations of forward and backward pass on a replica's
    windows, and a ring that moves 2 (n - 1) / n of the gradients' bytes in 2 (n - 1) messages.
    Nothing overlaps. The last column is the number of cores for reading and decoding the windows.
    """
    compute_s = WINDOWS * step_operations(full_size()) / GPU_FLOPS
    window_s = 512 * 1024 / common.RATE_HZ
    print(
        f"\non paper: {WINDOWS} windows a replica, {GPU_FLOPS / 1e12:.0f} TFLOP/s, nothing overlaps"
    )
    print()
    rows = []
    for name, sizes, bytes_per_s, latency_s in CLUSTERS:
        for local, machines in sizes:
            n = local * machines
            reduce_s = 2 * (n - 1) / n * 4 * PARAMETERS / bytes_per_s + 2 * (n - 1) * latency_s
            step_s = compute_s + reduce_s
            rate = n * WINDOWS * window_s / step_s
            rows.append(
                (name, n, f"{step_s * 1e3:.1f}", f"{reduce_s / step_s:.0%}", f"{rate:.0f}",
                 f"{compute_s / step_s:.0%}", f"{rate / READ_PER_CORE:.0f}")
            )  # fmt: skip
    columns = ("cluster", "replicas", "step, ms", "of it all-reduce", "audio-s/s", "efficiency",
               "cores")  # fmt: skip
    common.print_table(columns, rows)


if __name__ == "__main__":
    main()
