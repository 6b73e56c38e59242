"""DVC with the corpus and the features in a bucket of this machine; the oracle is DVC itself."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stemforge import storage
from tests.factories import STEMS, copy_checkout, set_params
from tests.processes import environment, google_storage

pytestmark = pytest.mark.system
LIMIT_S = 300


def dvc(project: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        ["dvc", *command], cwd=project, env=environment(**variables), capture_output=True,
        text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose corpus is in the bucket."""
    root = tmp_path / "project"
    copy_checkout(root)
    set_params(
        root,
        corpus__root="gs://bucket/corpus",
        corpus__stems=list(STEMS),
        features__bins=64,
        features__block_frames=32,
        features__mixture_phase="int8",
        features__shards=4,
        models=list(STEMS),
    )
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def contents(folder: str | Path) -> dict[str, bytes]:
    names = storage.list_files(str(folder), hidden=True)
    return {name: storage.read_bytes(f"{folder}/{name}") for name in names}


def outputs(project: Path) -> dict[str, str]:
    """Of stage features: md5 by path, from dvc.lock."""
    lock = YAML(typ="safe").load((project / "dvc.lock").read_text(encoding="utf-8"))
    return {out["path"]: out["md5"] for out in lock["stages"]["features"]["outs"]}


def test_features_in_a_bucket_and_on_the_disk_are_the_same_to_dvc(
    project: Path, tiny_corpus: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else DVC's gcsfs looks for a bucket's kind by gRPC, which the emulator does not speak.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with google_storage(monkeypatch):
        for path in tiny_corpus.rglob("*.stem.mp4"):
            name = path.relative_to(tiny_corpus).as_posix()
            storage.upload(path, f"gs://bucket/corpus/{name}")
        dvc(project, "repro", "features", STEMFORGE_FEATURES="gs://bucket/features")
        assert contents("gs://bucket/features") == contents(
            tiny_project / "data" / "features"
        )  # of local WAV files
        assert sorted(contents(project / "data" / "features")) == ["info.json", "rejects.parquet"]
        lock = (project / "dvc.lock").read_bytes()
        assert sorted(outputs(project)) == [
            "data/features/info.json",
            "data/features/rejects.parquet",
        ]
        assert "Stage 'features' didn't change, skipping" in dvc(project, "repro", "features")
        assert (project / "dvc.lock").read_bytes() == lock

        made = contents("gs://bucket/features")
        for bins in (128, 64):  # there and back: DVC's run cache has no shards
            set_params(project, features__bins=bins)
            dvc(project, "repro", "features", STEMFORGE_FEATURES="gs://bucket/features")
            assert (contents("gs://bucket/features") == made) == (bins == 64)
        assert (project / "dvc.lock").read_bytes() == lock

        dvc(project, "remote", "add", "--default", "store", "gs://bucket/store")
        tracks = project / "data" / "tracks.parquet"
        manifest = tracks.read_bytes()
        dvc(project, "push", "data/tracks.parquet")
        tracks.unlink()
        shutil.rmtree(project / ".dvc" / "cache")
        dvc(project, "pull", "data/tracks.parquet")
        assert tracks.read_bytes() == manifest

        storage.write_bytes("gs://bucket/corpus/train/Song 0.stem.mp4", b"edited")
        assert "modified:           gs://bucket/corpus" in dvc(project, "status", "decode")
