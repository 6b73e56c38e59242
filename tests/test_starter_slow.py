"""The default run: what the README promises of the starter corpus. Takes minutes."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.test_dvc_repro import clone, commit, run


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clones of a commit, with everything made in each."""
    origin = tmp_path_factory.mktemp("starter") / "origin"
    origin.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml"):
        shutil.copy(ROOT / name, origin / name)
    shutil.copytree(ROOT / "comparisons", origin / "comparisons")
    run(origin, "git", "init", "-q")
    run(origin, "dvc", "init", "-q")
    commit(origin, "start")
    found = [clone(origin, name) for name in ("one", "two")]
    for project in found:
        run(project, "dvc", "repro", "-q")
    return found


@pytest.mark.slow
def test_the_default_nets_beat_the_mixture_on_held_out_songs(clones: list[Path]) -> None:
    tracks = pd.read_csv(clones[0] / "leaderboard" / "tracks.csv")
    generated = tracks[tracks["track"].str.startswith("Starter")]
    assert generated["track"].nunique() == 3
    median = generated.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["stemforge", stem] >= median["MIX", stem] + 3.0
        assert median["IRM1", stem] > median["stemforge", stem]


@pytest.mark.slow
def test_two_clones_make_the_same_release_byte_for_byte(clones: list[Path]) -> None:
    one, two = (project / "release" for project in clones)
    assert (one / "SHA256SUMS").read_bytes() == (two / "SHA256SUMS").read_bytes()
    done = run(clones[0], "stemforge", "verify", str(one), "--compare", str(two))
    assert "byte for byte" in done.stdout
