"""The whole way on a tiny corpus: killed three times, finished, and run again for nothing."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import ROOT
from tests.projects import set_params

STEPS = 120  # many more than the half second that a killed stage lives on
LIMIT_S = 300
SETTINGS = {
    "corpus": {"stems": ["vocals", "drums"]},
    "features": {"bins": 128, "block_frames": 64},
    "train": {
        "models": ["vocals", "drums"],
        "frames": 32,
        "width": 2,
        "depth": 4,
        "batch_size": 2,
        "steps": STEPS,
        "log_every_steps": 20,
        "validate_every_steps": 40,
        "checkpoint_every_steps": 3,
    },
}


@pytest.fixture
def project(tmp_path: Path, tiny_corpus: Path) -> Path:
    """A checkout of its own, with DVC in git mode and the tiny corpus."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "comparisons", root / "comparisons")
    shutil.copytree(tiny_corpus, tmp_path / "corpus")
    shutil.copy(ROOT / "params.yaml", root)
    set_params(
        root,
        corpus__root="../corpus",
        **{f"{s}__{key}": value for s, values in SETTINGS.items() for key, value in values.items()},
    )
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    for command in (
        ["git", "init", "-q"],
        ["git", *someone, "commit", "-q", "--allow-empty", "-m", "start"],
        ["dvc", "init", "-q"],
    ):
        subprocess.run(command, cwd=root, check=True, env=environment())
    for setting in ("core.analytics", "core.check_update"):
        subprocess.run(["dvc", "config", setting, "false"], cwd=root, check=True, env=environment())
    return root


def environment(*first: Path) -> dict[str, str]:
    places = [*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(places)}


def ffmpeg_that_waits(folder: Path, *, song: str, held: Path) -> Path:
    """A folder with an ffmpeg that does not begin on a song while the file `held` exists."""
    folder.mkdir()
    held.touch()
    (folder / "ffmpeg").write_text(
        f"""#!/bin/sh
        case "$*" in *"{song}"*) while [ -e "{held}" ]; do sleep 0.05; done;; esac
        exec "{shutil.which("ffmpeg")}" "$@"
        """
    )
    (folder / "ffmpeg").chmod(0o755)
    (folder / "ffprobe").symlink_to(str(shutil.which("ffprobe")))
    return folder


def start_repro(root: Path, *first: Path) -> "subprocess.Popen[str]":
    """Starts it; what it prints goes to a file, which no orphan holds open for us."""
    with printed(root).open("w") as file:
        return subprocess.Popen(
            ["dvc", "repro"], cwd=root, env=environment(*first), stdout=file, stderr=file, text=True
        )


def printed(root: Path) -> Path:
    return root.parent / "printed"


def kill_when(root: Path, stage: str, pattern: str, *first: Path) -> list[Path]:
    """Starts `dvc repro` and kills it, and nothing else, once a file of that name exists.

    Its stage ends by itself half a second later, unless it is done by then.
    """
    process = start_repro(root, *first)
    work = root / ".work" / stage
    deadline = time.monotonic() + LIMIT_S
    while not (found := sorted(work.glob(pattern))):
        assert process.poll() is None, printed(root).read_text()
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while runs(int((work / "lock").read_text())):
        assert time.monotonic() < deadline, f"{stage} lives on"
        time.sleep(0.02)
    return found


def runs(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finish(root: Path) -> str:
    process = start_repro(root)
    process.wait(timeout=LIMIT_S)
    assert process.returncode == 0, printed(root).read_text()
    return printed(root).read_text()


def test_killed_in_decode_train_and_evaluate_then_finished_then_nothing_to_do(
    project: Path,
) -> None:
    held = project.parent / "held"
    binaries = ffmpeg_that_waits(project.parent / "bin", song="Song 9", held=held)
    decoded = kill_when(project, "decode", "*/*.json", binaries)
    assert decoded
    held.unlink()
    assert not (project / "data/tracks.parquet").exists()
    first = decoded[0].stat().st_mtime_ns

    kill_when(project, "train-vocals", "*/checkpoint-*")
    assert not decoded[0].exists() or decoded[0].stat().st_mtime_ns == first  # not done again
    assert not (project / "models" / "vocals").exists()

    (scored, *_) = kill_when(project, "evaluate", "*/scores/*/test/*.json")
    kept = scored.relative_to(project)
    text = finish(project)
    assert "Running stage 'leaderboard'" in text
    assert "Running stage 'train@vocals'" not in text
    assert "Running stage 'decode'" not in text
    assert not (project / kept).exists()  # renamed into scores/

    # The history of the interrupted stem: every step's row once, in order.
    for stem in ("vocals", "drums"):
        rows = list(csv.DictReader((project / "models" / stem / "history.csv").open()))
        assert [int(row["step"]) for row in rows] == [20, 40, 60, 80, 100, 120]
        assert [int(r["step"]) for r in rows if r["valid_loss"]] == [40, 80, 120]

    scores = pd.read_parquet(project / "scores" / "scores.parquet")
    assert set(scores["method"]) == {"stemforge", "MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF"}
    median = scores.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["IRM1", stem] > median["MIX", stem]
    metrics = json.loads((project / "leaderboard" / "metrics.json").read_text())
    assert metrics["stemforge"]["drums"]["SDR"] == pytest.approx(
        median["stemforge", "drums"], abs=1e-3
    )
    parity = json.loads((project / "exports" / "parity.json").read_text())
    for stem in ("vocals", "drums"):
        name = f"{stem}/{stem}-float32.tflite"
        assert parity[name][stem]["relative_difference"] < 1e-4
        assert (project / "exports" / name).is_file()
    assert (project / "exports" / "saved_model" / "saved_model.pb").is_file()

    again = finish(project)
    assert "Data and pipelines are up to date" in again
    assert "Running stage" not in again
    show = subprocess.run(
        ["dvc", "metrics", "show", "--json"],
        cwd=project, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "SDR" in show.stdout
    shown = {name: entry.get("data") for name, entry in json.loads(show.stdout)[""]["data"].items()}
    live = shown["runs/vocals/dvclive/metrics.json"]
    assert live["step"] == STEPS
    best = shown["models/vocals/metrics.json"]
    assert best["best_step"] in (40, 80, 120)
    assert best["best_valid_loss"] <= live["valid_loss"]
