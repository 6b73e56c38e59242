"""BSSEval v4 of a whole track against museval.

    python -m benchmarks.bss_eval [--seconds 240] [--turns 3]

A stereo track of coloured noise is scored as museval.eval_mus_track scores one: four targets
together, then vocals and accompaniment. Both scorers run in their own process, with all cores, turn
by turn; medians. Then the largest difference of any score, and the time for fifty tracks.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.common import RATE_HZ

THIS = (sys.executable, "-m", "benchmarks.bss_eval")
SCORERS = ("museval", "stemforge")


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args(argv)
    seconds: dict[str, list[float]] = {name: [] for name in SCORERS}
    memory_mb: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's peak memory counts what its parent had at the fork.
        signals = Path(folder) / "signals.npy"
        common.measure([*THIS, "make", arguments.seconds, signals])
        for _ in range(arguments.turns):
            for name in SCORERS:
                out = Path(folder) / f"{name}.npz"
                _, memory_mb[name] = common.measure([*THIS, "run", name, signals, out])
                seconds[name].append(float(np.load(out)["seconds"]))
        scores = [np.load(Path(folder) / f"{name}.npz")["scores"] for name in SCORERS]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, value in medians.items():
        ratio = common.against(medians["museval"], value, digits=1)
        memory, fifty = f"{memory_mb[name]:.0f} MB", f"{value * 50 / 60:.0f} min"
        speed = f"{arguments.seconds / value:.1f}"
        rows.append((name, f"{value:.1f}", speed, ratio, memory, fifty))
    columns = ("scorer", "seconds", "times real time", "ratio", "peak memory", "50 tracks")
    common.print_table(columns, rows)
    print(f"\nlargest difference of a score: {np.abs(scores[0] - scores[1]).max():.1e} dB")


def run(scorer: str, signals: Path, out: Path) -> None:
    if scorer == "museval":
        from stemforge.features.audio.ffmpeg import put_ffmpeg_on_path

        put_ffmpeg_on_path()
        import museval.metrics

        def score(*pair: np.ndarray) -> np.ndarray:
            return np.stack(museval.metrics.bss_eval(*pair, window=RATE_HZ, hop=RATE_HZ)[:4])
    else:
        from stemforge.eval.scoring.bss_eval import bss_eval

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
    if sys.argv[1:2] == ["make"]:
        np.save(sys.argv[3], track(int(sys.argv[2])))
    elif sys.argv[1:2] == ["run"]:
        run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
