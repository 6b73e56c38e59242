"""The default run: what the README promises of the starter corpus. Takes minutes."""

from pathlib import Path

import pandas as pd
import pytest

from tests.factories import copy_checkout
from tests.system.test_dvc_repro import clone, commit, release, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what `dvc repro` needs, in one commit."""
    root = tmp_path_factory.mktemp("starter") / "origin"
    copy_checkout(root)
    run(root, "git", "init", "-q")
    commit(root, "start")
    return root


@pytest.fixture(scope="module")
def made(origin: Path) -> Path:
    """A clone of it with everything made."""
    project = clone(origin, "one")
    run(project, "dvc", "repro", "-q")
    commit(project, "what came out")
    return project


@pytest.mark.always
def test_the_default_nets_beat_the_mixture_on_held_out_songs(made: Path) -> None:
    tracks = pd.read_csv(made / "leaderboard" / "tracks.csv")
    generated = tracks[tracks["track"].str.startswith("Starter")]
    assert generated["track"].nunique() == 3
    median = generated.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["stemforge", stem] >= median["UNPROCESSED", stem] + 3.0
        assert median["IRM1", stem] > median["stemforge", stem]


def test_another_clone_makes_the_same_release_byte_for_byte(made: Path) -> None:
    other = clone(made, "two")
    run(other, "dvc", "repro", "-q")
    for root in (made, other):
        release(root)
    one, two = made / "release", other / "release"
    assert (one / "SHA256SUMS").read_bytes() == (two / "SHA256SUMS").read_bytes()
    done = run(made, "stemforge", "verify", str(one), "--compare", str(two))
    assert "byte for byte" in done.stdout
