"""Steps of one stem's full-size net on one and two replicas of this machine.

    python -m benchmarks.distributed CORPUS_ROOT

Windows of 512 frames and 1024 bins in batches of 4, input and the workers' agreement to go on
included, by one device, by one and two logical devices of one process (mirrored), and by one and
two processes (multi_worker). Two share the cores that one had, so what they take longer is
overhead. Medians over turns of the medians of a turn's steps; then a model on paper of larger
clusters.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stemforge.pipelines.strategies import make_cluster  # isort: skip (before all that imports TensorFlow)

from benchmarks.features import decode
from benchmarks.train_step import full_size, operations
from stemforge.features.errors import Interrupted
from stemforge.features.feature_set import FeatureSet
from stemforge.pipelines.train_cluster import THREADS, free_ports
from stemforge.train.dataset import Dataset
from stemforge.train.trainer import Report, Trainer

TURNS, WARM_UP, STEPS = 3, 2, 6
CASES = (
    ("one device", "default", 1, 1),
    ("one logical device", "mirrored", 1, 1),
    ("two logical devices", "mirrored", 2, 1),
    ("one process", "multi_worker", 1, 1),
    ("two processes", "multi_worker", 1, 2),
)
# What the model on paper assumes.
PARAMETERS = 9.8e6  # of one stem's net; gradients are float32
WINDOWS = 16  # of each replica
GPU_FLOPS = 40e12  # reached by a data-centre GPU in TF32 convolutions: a quarter of its peak
READ_PER_CORE = 3000  # audio-s/s of mixture and one stem: half of benchmarks.reader on two cores
CLUSTERS = (
    # name, replicas on each of so many machines, bytes/s between replicas, latency
    ("GPUs of one machine", ((1, 1), (2, 1), (4, 1), (8, 1)), 200e9, 10e-6),
    ("machines of one GPU, 25 Gbit/s", ((1, 2), (1, 4), (1, 8), (1, 16)), 25e9 / 8, 50e-6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        work(arguments.case, FeatureSet.open(str(arguments.corpus)))
        return
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        decode(arguments.corpus.resolve(), project)
        subprocess.run(
            [sys.executable, "-m", "stemforge.pipelines.compute_features"], cwd=project, check=True
        )
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(TURNS):
            for name, *case in CASES:
                found.setdefault(name, []).append(turn(project / "data" / "features", *case))
    median = {
        name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for name, turns in found.items()
    }
    base = median["one device"]["step"]
    print("\n| replicas | step, s | of one device's | waiting for input |")
    print("| --- | --- | --- | --- |")
    for name, values in median.items():
        print(
            f"| {name} | {values['step']:.2f} | {values['step'] / base:.2f} | "
            f"{values['waiting']:.1%} |"
        )
    print_model()


def turn(features: Path, strategy: str, devices: int, workers: int) -> dict[str, float]:
    """One turn of a case, in processes of its own."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        environment = os.environ | {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "STEMFORGE_LOGICAL_CPUS": str(devices),
            THREADS: str(max(1, (os.cpu_count() or 1) // workers)),
        }
        if strategy == "multi_worker":
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(task)
        command = [sys.executable, "-m", "benchmarks.distributed", features, "--case", strategy]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    printed = [process.communicate()[0] for process in processes]
    found: dict[str, float] = json.loads(printed[0])
    return found


def work(strategy: str, features: FeatureSet) -> None:
    """A worker's part of a turn; the chief prints what it took."""
    cluster = make_cluster(strategy)
    net, config = full_size()
    config = dataclasses.replace(
        config, steps=10**6, validate_every_steps=10**6, checkpoint_every_steps=10**6
    )
    stems = ("vocals",)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) if cluster.is_chief else None
        trainer = Trainer(net, config, stems=stems, work=folder, cluster=cluster)
        dataset = Dataset(
            features, stems=stems, window_frames=net.frames, batch_size=config.batch_size
        )
        ends: list[float] = []
        waiting: list[float] = []

        def report(report: Report) -> None:
            ends.append(time.perf_counter())
            waiting.append(report.waiting)

        try:
            trainer.fit(dataset, report=report, should_stop=lambda: len(ends) >= WARM_UP + STEPS)
        except Interrupted:
            steps = [b - a for a, b in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
            if cluster.is_chief:
                print(json.dumps({"step": statistics.median(steps), "waiting": waiting[-1]}))
        cluster.wait()


def print_model() -> None:
    """Throughput of clusters that are not here, by a model with its assumptions.

    A step is compute + all-reduce: the operations of forward and backward pass on a replica's
    windows, and a ring that moves 2 (n - 1) / n of the gradients' bytes in 2 (n - 1) messages.
    Nothing overlaps. The last column is what reading and decoding the windows takes beside it.
    """
    compute_s = WINDOWS * operations() / GPU_FLOPS
    window_s = 512 * 1024 / 44100
    print(
        f"\non paper: {WINDOWS} windows a replica, {GPU_FLOPS / 1e12:.0f} TFLOP/s, nothing overlaps"
    )
    print("\n| cluster | replicas | step, ms | of it all-reduce | audio-s/s | efficiency | cores |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, sizes, bytes_per_s, latency_s in CLUSTERS:
        for local, machines in sizes:
            n = local * machines
            reduce_s = 2 * (n - 1) / n * 4 * PARAMETERS / bytes_per_s + 2 * (n - 1) * latency_s
            step_s = compute_s + reduce_s
            rate = n * WINDOWS * window_s / step_s
            print(
                f"| {name} | {n} | {step_s * 1e3:.1f} | {reduce_s / step_s:.0%} | {rate:.0f} | "
                f"{compute_s / step_s:.0%} | {rate / READ_PER_CORE:.0f} |"
            )


if __name__ == "__main__":
    main()
