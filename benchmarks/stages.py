"""Seconds and bytes of each stage on a corpus, and what that means for MUSDB18.

Runs the stages one after the other in a temporary folder, with Spleeter's own net size:

    python benchmarks/stages.py CORPUS_ROOT

Needs a corpus that musdb accepts, with at least two training tracks and a test track.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from ruamel.yaml import YAML

# MUSDB18: 150 tracks; 31 GB of 16-bit WAV in five stereo sources are 9.8 hours, about 6.3 of
# them in its 100 training tracks and 3.5 in its 50 test tracks.
MUSDB18_S = {"all": 9.8 * 3600, "train": 6.3 * 3600, "test": 3.5 * 3600}
STEPS = 12
SPLEETER_NET = {
    "frames": 512,
    "width": 16,
    "norm": "affine",
    "batch_size": 4,
    "steps": STEPS,
    "validate_every_steps": STEPS,
    "validation_windows": 1,
    "checkpoint_every_steps": STEPS,
    "log_every_steps": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    corpus: Path = parser.parse_args().corpus.resolve()
    yaml = YAML()
    params = yaml.load((Path(__file__).parent.parent / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"]["root"] = str(corpus)
    params["train"].update(SPLEETER_NET)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        yaml.dump(params, root / "params.yaml")
        run(root, "corpus")
        decode_s = run(root, "decode")
        seconds = durations(root)
        features_s = run(root, "compute_features")
        for stem in params["corpus"]["stems"]:
            run(root, "train_stem", "--stem", stem)
        step_s = step_seconds(root, params["corpus"]["stems"])
        separate_s = run(root, "separate")
        evaluate_s = run(root, "evaluate")
        decoded, features = size(root / "data/decoded"), size(root / "data/features")
    rows = [
        ("decode", seconds["all"], decode_s, decoded, "all"),
        ("features", seconds["train"], features_s, features, "train"),
        ("separate", seconds["test"], separate_s, 0, "test"),
        ("evaluate", seconds["test"], evaluate_s, 0, "test"),
    ]
    print("| stage | audio, s | wall, s | audio-s per s | MUSDB18, hours | MUSDB18, GB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for stage, audio_s, wall_s, written, part in rows:
        factor = MUSDB18_S[part] / audio_s
        gigabytes = f"{written * factor / 1e9:.0f}" if written else "-"
        print(
            f"| {stage} | {audio_s:.0f} | {wall_s:.1f} | {audio_s / wall_s:.1f} "
            f"| {wall_s * factor / 3600:.1f} | {gigabytes} |"
        )
    print(
        f"\ntraining, Spleeter's net, batch 4: {step_s:.2f} s a step and stem, "
        f"{step_s * 100_000 / 3600:.0f} hours for 100 000 steps"
    )


def run(root: Path, stage: str, *arguments: str) -> float:
    """Wall-clock seconds of one stage as a command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", f"stemforge.pipelines.{stage}", *arguments]
    subprocess.run(command, cwd=root, check=True)
    return time.perf_counter() - started


def step_seconds(root: Path, stems: list[str]) -> float:
    """Seconds a step from TensorBoard's clock: the median of all steps but the first two."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    gaps = []
    for stem in stems:
        events = EventAccumulator(str(root / "runs" / stem)).Reload()
        times = [event.wall_time for event in events.Tensors("loss/train")][2:]
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    return sorted(gaps)[len(gaps) // 2]


def durations(root: Path) -> dict[str, float]:
    """Seconds of music per split; "train" holds valid too, as features do."""
    table = pq.read_table(root / "data/tracks.parquet").to_pylist()
    test = sum(row["duration_s"] for row in table if row["split"] == "test")
    everything = sum(row["duration_s"] for row in table)
    return {"all": everything, "train": everything - test, "test": test}


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
