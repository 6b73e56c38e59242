"""BSSEval v4 of a whole track against museval.

    python -m benchmarks.bss_eval [--seconds 240] [--turns 3]

A stereo track of coloured noise is scored as museval.eval_mus_track scores one: four targets
together, then vocals and accompaniment. Each in a process of its own, with all cores, turn by
turn; medians. Then the largest difference of any score, and what fifty tracks would take.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.separate import measure, quiet

RATE_HZ = 44100
SCORERS = ("museval", "stemforge")


def main() -> None:
    if sys.argv[1:2] == ["make"]:
        np.save(sys.argv[3], track(int(sys.argv[2])))
        return
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in SCORERS}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's peak memory counts what its parent had at the fork.
        signals = Path(folder) / "signals.npy"
        this = [sys.executable, "-m", "benchmarks.bss_eval"]
        subprocess.run([*this, "make", str(arguments.seconds), str(signals)], check=True)
        for _ in range(arguments.turns):
            for name in SCORERS:
                out = Path(folder) / f"{name}.npz"
                _, memory[name] = measure([*this, "run", name, signals, out], quiet())
                seconds[name].append(float(np.load(out)["seconds"]))
        scores = [np.load(Path(folder) / f"{name}.npz")["scores"] for name in SCORERS]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| scorer | seconds | times real time | ratio | peak memory | 50 tracks |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, value in medians.items():
        ratio = f"{medians['museval'] / value:.1f}x"
        speed = f"{arguments.seconds / value:.1f}"
        fifty = f"{value * 50 / 60:.0f} min"
        print(f"| {name} | {value:.1f} | {speed} | {ratio} | {memory[name]:.0f} MB | {fifty} |")
    print(f"\nlargest difference of a score: {np.abs(scores[0] - scores[1]).max():.1e} dB")


def run(scorer: str, signals: Path, out: Path) -> None:
    if scorer == "museval":
        from stemforge.features.ffmpeg import find_ffmpeg

        find_ffmpeg()
        import museval.metrics

        def score(*pair: np.ndarray) -> np.ndarray:
            return np.stack(museval.metrics.bss_eval(*pair, window=RATE_HZ, hop=RATE_HZ)[:4])
    else:
        from stemforge.eval.bss_eval import bss_eval

        def score(*pair: np.ndarray) -> np.ndarray:
            found = bss_eval(*pair, window=RATE_HZ, hop=RATE_HZ)
            return np.stack([found.sdr, found.isr, found.sir, found.sar])

    pair = np.load(signals)
    started = time.perf_counter()
    scores = [score(*pair)]
    accompanied = [np.stack([s[0], s[1:].sum(axis=0)]) for s in pair]
    del pair
    scores.append(score(*accompanied))
    took = time.perf_counter() - started
    np.savez(out, seconds=took, scores=np.concatenate(scores, axis=1))


def track(seconds: int) -> np.ndarray:
    """Four stems of coloured noise and estimates with errors of each kind.

    float32 [references and estimates, stems, samples, channels].
    """
    random = np.random.default_rng(0)
    samples = seconds * RATE_HZ
    references = np.empty((4, samples, 2), np.float32)
    for stem in references:
        white = random.normal(0.0, 0.1, (samples + 4, 2)).astype(np.float32)
        stem[:] = sum(white[lag : lag + samples] / (lag + 1) for lag in range(4))
    estimates = 0.8 * references + 0.1 * references.sum(axis=0)
    estimates[:, 1:] += 0.3 * references[:, :-1]
    estimates += random.normal(0.0, 0.01, references.shape).astype(np.float32)
    return np.stack([references, estimates])


if __name__ == "__main__":
    main()
