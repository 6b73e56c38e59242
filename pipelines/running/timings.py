"""What exports cost on this machine: size, start-up, latency by threads, peak memory.

Each file is measured in separate processes, which run this module with the file and a number
of threads, and load nothing but what runs the file.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from stemforge import storage
from stemforge.errors import UserError
from stemforge.pipelines.console import progress

THREADS = (1, 2)
RUNS = 5


def write_timings(root: Path, out: Path) -> None:
    """Measures all TFLite files and SavedModels in a folder.

    By name: size_mb; start_up_s, from opening it to the first result; latency_1_s and latency_2_s,
    medians for one segment (what the file processes at once) with 1 and 2 threads; and
    peak_memory_mb of the whole process.

    Args:
        root: what `pipelines.running.exporting.export_all` has filled.
        out: the JSON file to write.

    Raises:
        UserError: a file does not run.
    """
    found: dict[str, dict[str, float]] = {}
    places = storage.visible(
        [*root.rglob("*.tflite"), *(p.parent for p in root.rglob("saved_model.pb"))], root
    )
    with progress(len(places), label="timings", unit="file") as bar:
        for path in places:
            parts = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            values = {"size_mb": sum(part.stat().st_size for part in parts) / 1e6}
            for threads in THREADS:
                command = [
                    sys.executable,
                    "-m",
                    "stemforge.pipelines.running.timings",
                    str(path),
                    str(threads),
                ]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise UserError(f"{path}: its timing failed: {done.stderr.strip()[-200:]}")
                run = json.loads(done.stdout)
                values[f"latency_{threads}_s"] = run["latency_s"]
                values |= {name: run[name] for name in ("start_up_s", "peak_memory_mb")}
            name = path.relative_to(root).as_posix()
            found[name] = {key: round(values[key], 6) for key in sorted(values)}
            bar.update()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(path: Path, threads: int) -> None:
    """Measures one file with this many threads, and prints JSON."""
    started = time.perf_counter()
    run = _saved_model(path, threads) if path.is_dir() else _tflite(path, threads)
    run()
    start_up_s = time.perf_counter() - started
    latencies = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        latencies.append(time.perf_counter() - started)
    values = {
        "start_up_s": start_up_s,
        "latency_s": statistics.median(latencies),
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(values))


def _tflite(path: Path, threads: int) -> Callable[[], Any]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=threads).get_signature_runner()
    inputs = {name: noise(detail["shape"]) for name, detail in runner.get_input_details().items()}
    return lambda: runner(**inputs)


def _saved_model(path: Path, threads: int) -> Callable[[], Any]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures["estimate"]
    shape = [1, *call.structured_input_signature[1]["mixture"].shape[1:]]
    values = tf.constant(noise(shape))
    return lambda: [found.numpy() for found in call(mixture=values).values()]


def noise(shape: Iterable[int]) -> Any:
    """Input that is not silent, and faster to make than random numbers."""
    return np.resize(np.linspace(0.01, 1.0, 997, dtype=np.float32), tuple(shape))


def peak_memory_mb() -> float:
    """Of this process; Linux counts it from the start of the program."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
