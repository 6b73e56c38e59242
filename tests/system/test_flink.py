"""The feature job on a real Flink cluster of this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.flink.isolation import Workers
from deploy.flink.run import Cluster, fetch_jars
from stemforge import storage
from tests.conftest import ROOT
from tests.factories import STEMS, copy_checkout, make_project, set_params
from tests.processes import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("java") and shutil.which("mvn")), reason="needs java and mvn"
    ),
]


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


def test_dvc_has_the_features_computed_on_flink(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corpus and shards in a bucket, workers that see neither; then the same on this machine."""
    for name, value in os.environ.items():
        monkeypatch.setenv(name, value)  # what the cluster sets ends with the test
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    projects = [tmp_path / name for name in ("there", "here")]
    for root in projects:
        copy_checkout(root)
        set_params(
            root, corpus__root="gs://bucket/corpus", corpus__stems=list(STEMS), models=list(STEMS)
        )
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    folder = tmp_path / "flink"
    workers = Workers(folder / "workers")
    workers.folder.mkdir(parents=True)
    workers.install()
    with Cluster(folder, fetch_jars(folder / "jars"), workers, projects).running() as cluster:
        for path in tiny_corpus.rglob("*.stem.mp4"):
            storage.upload(path, f"gs://bucket/corpus/{path.relative_to(tiny_corpus).as_posix()}")
        place = {"STEMFORGE_FEATURES": "gs://bucket/features"}
        there = {**place, "STEMFORGE_BEAM_ARGS": " ".join(cluster.flags)}
        assert "beam: job" in repro(projects[0], **there)
        assert {"info.json", "train"} <= {
            name.split("/")[0] for name in storage.list_files("gs://bucket/features")
        }
        lock = (projects[0] / "dvc.lock").read_bytes()
        again = repro(projects[0])
        assert "Stage 'features' didn't change, skipping" in again
        assert "Running stage" not in again
        repro(projects[1])
    assert (projects[1] / "dvc.lock").read_bytes() == lock


def repro(root: Path, **variables: str) -> str:
    """What `dvc repro features` prints."""
    done = subprocess.run(
        ["dvc", "repro", "features"], cwd=root, env=environment(**variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
