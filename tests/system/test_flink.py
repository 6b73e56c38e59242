"""The feature job on a real Flink cluster of this machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.factories import make_project
from tests.processes import environment


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="needs java and mvn")
def test_a_flink_cluster_makes_the_same_bytes(tiny_corpus: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tiny_corpus)
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "flink" / "run.py"],
        cwd=project,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the same bytes as locally") == 3
    assert "killed the TaskManager" in done.stderr
    assert "Python workers" in done.stderr
