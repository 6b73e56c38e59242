"""The default run: what the README promises of the starter corpus. Takes minutes."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.test_dvc_repro import environment


@pytest.mark.slow
def test_the_default_nets_beat_the_mixture_on_held_out_songs(tmp_path: Path) -> None:
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "comparisons", tmp_path / "comparisons")
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    for command in (
        ["git", "init", "-q"],
        ["git", *someone, "commit", "-q", "--allow-empty", "-m", "start"],  # dvclive wants one
        ["dvc", "init", "-q"],
        ["dvc", "repro", "-q"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, env=environment())
    tracks = pd.read_csv(tmp_path / "leaderboard" / "tracks.csv")
    generated = tracks[tracks["track"].str.startswith("Starter")]
    assert generated["track"].nunique() == 3
    median = generated.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["stemforge", stem] >= median["MIX", stem] + 3.0
        assert median["IRM1", stem] > median["stemforge", stem]
