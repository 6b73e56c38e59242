"""The default run: what the README promises of the starter corpus. Takes minutes."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.system.test_dvc_repro import clone, commit, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what `dvc repro` needs, in one commit."""
    root = tmp_path_factory.mktemp("starter") / "origin"
    root.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "comparisons", root / "comparisons")
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    commit(root, "start")
    return root


@pytest.fixture(scope="module")
def made(origin: Path) -> Path:
    """A clone of it with everything made."""
    project = clone(origin, "one")
    run(project, "dvc", "repro", "-q")
    return project


@pytest.mark.always
def test_the_default_nets_beat_the_mixture_on_held_out_songs(made: Path) -> None:
    tracks = pd.read_csv(made / "leaderboard" / "tracks.csv")
    generated = tracks[tracks["track"].str.startswith("Starter")]
    assert generated["track"].nunique() == 3
    median = generated.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["stemforge", stem] >= median["MIX", stem] + 3.0
        assert median["IRM1", stem] > median["stemforge", stem]


def test_another_clone_makes_the_same_release_byte_for_byte(origin: Path, made: Path) -> None:
    other = clone(origin, "two")
    run(other, "dvc", "repro", "-q")
    one, two = made / "release", other / "release"
    assert (one / "SHA256SUMS").read_bytes() == (two / "SHA256SUMS").read_bytes()
    done = run(made, "stemforge", "verify", str(one), "--compare", str(two))
    assert "byte for byte" in done.stdout
