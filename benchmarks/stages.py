"""Seconds and bytes of each stage on a corpus, and extrapolated to MUSDB18.

Runs the stages one after the other in a temporary folder, with Spleeter's own net size:

    python -m benchmarks.stages CORPUS_ROOT

Needs a corpus that musdb accepts, with at least two training tracks and a test track.
"""

import itertools
import statistics
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import common
from benchmarks.full_size import add_net
from stemforge.features.corpus.sources import STEMS

# MUSDB18: 150 tracks; 31 GB of 16-bit WAV in five stereo sources are 9.8 hours, about 6.3 of
# them in its 100 training tracks and 3.5 in its 50 test tracks.
MUSDB18_S = {"all": 9.8 * 3600, "train": 6.3 * 3600, "test": 3.5 * 3600}
STEPS = 12
PARTS = {"decode": "all", "features": "train", "separate": "test", "evaluate": "test"}
TRAIN = {
    "batch_size": 4,
    "steps": STEPS,
    "validate_every_steps": STEPS,
    "validation_windows": 1,
    "log_every_steps": 1,
}


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    add_net(parser)
    parser.add_argument("--stems", nargs="+", default=list(STEMS), help="to train (all four)")
    arguments = parser.parse_args(argv)
    stems: list[str] = arguments.stems
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        net = {"frames": arguments.frames, "width": arguments.width, "norm": "affine"}
        values = {
            "corpus": {"stems": stems},
            "models": stems,
            "train": TRAIN | {"net": net},
            "monitor": {"checkpoint_every_steps": STEPS},
        }
        common.write_params(root, arguments.corpus, values)
        wall_s = {"decode": common.stage(root, "decode")}
        wall_s["features"] = common.stage(root, "features")
        for stem in stems:
            common.stage(root, "train", "--stem", stem)
        wall_s["separate"] = common.stage(root, "separate")
        wall_s["evaluate"] = common.stage(root, "evaluate")
        written = {"decode": size(root / "data/decoded"), "features": size(root / "data/features")}
        report(durations(root), wall_s, written)
        step_s = step_seconds(root, stems)
    print(
        f"\ntraining, frames {arguments.frames}, width {arguments.width}, batch "
        f"{TRAIN['batch_size']}: {step_s:.2f} s a step and stem, "
        f"{step_s * 100_000 / 3600:.0f} hours for 100 000 steps"
    )


def report(seconds: dict[str, float], wall_s: dict[str, float], written: dict[str, int]) -> None:
    rows = []
    for stage, taken_s in wall_s.items():
        part = PARTS[stage]
        factor = MUSDB18_S[part] / seconds[part]
        gigabytes = f"{written[stage] * factor / 1e9:.0f}" if stage in written else "-"
        rows.append(
            (stage, f"{seconds[part]:.0f}", f"{taken_s:.1f}", f"{seconds[part] / taken_s:.1f}",
             f"{taken_s * factor / 3600:.1f}", gigabytes)
        )  # fmt: skip
    columns = ("stage", "audio, s", "wall, s", "audio-s per s", "MUSDB18, hours", "MUSDB18, GB")
    common.print_table(columns, rows)


def step_seconds(root: Path, stems: list[str]) -> float:
    """Seconds a step from TensorBoard's clock: the median of all steps but the first two."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    gaps: list[float] = []
    for stem in stems:
        events = EventAccumulator(str(root / "runs" / stem)).Reload()
        times = [event.wall_time for event in events.Tensors("loss/train")][2:]
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps)


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
