"""Features that a training run reads: copied once, checked once, copied again where damaged."""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.running.feature_cache import local_features

SOURCES = ("mixture", "vocals")


@pytest.fixture
def remote(features: FeatureSet, in_tmp: Path) -> FeatureSet:
    """The tiny corpus' features in an object store; the current folder is empty."""
    root = f"memory://{uuid.uuid4()}"
    for name in storage.list_files(features.root):
        storage.write_bytes(f"{root}/{name}", storage.read_bytes(f"{features.root}/{name}"))
    return FeatureSet.read_info(root)


def fetch(features: FeatureSet, sources: Sequence[str] = SOURCES) -> Path:
    """The folder that a run reads."""
    with local_features(features, sources, advice="do this") as found:
        assert found.sha256 == features.sha256
        assert found.reader("valid").runs == features.reader("valid").runs
        return Path(found.root)


def refused(features: FeatureSet) -> str:
    with pytest.raises(UserError) as caught:
        fetch(features)
    return str(caught.value)


def sums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_what_a_run_needs_is_copied_once(remote: FeatureSet) -> None:
    folder = fetch(remote)
    digest = hashlib.sha256(storage.read_bytes(f"{remote.root}/info.json")).hexdigest()
    assert folder == Path(f".work/features-cache/{digest}")
    # Two train shards and a valid one, each with an index; no drums.
    assert sorted({name.split("-")[0] for name in sums(folder)}) == [
        "train/index", "train/mixture", "train/vocals",
        "valid/index", "valid/mixture", "valid/vocals",
    ]  # fmt: skip
    assert len(sums(folder)) == 9
    assert sums(folder).items() <= sums(Path(fetch(remote, (*SOURCES, "drums")))).items()
    for name in sums(folder):  # nothing is read from there any more
        storage.remove(f"{remote.root}/{name}")
    with local_features(remote, SOURCES, advice="") as again:
        assert again.root == str(folder)


@pytest.mark.parametrize("damage", ["truncated", "edited", "removed"])
def test_a_damaged_copy_is_copied_again(remote: FeatureSet, damage: str) -> None:
    folder = fetch(remote)
    before = sums(folder)
    path = next((folder / "train").glob("vocals-*"))
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "truncated" else data[:-1] + b"?")
    assert fetch(remote) == folder
    assert sums(folder) == before


def test_damage_in_the_bucket_is_one_line(remote: FeatureSet) -> None:
    name = next(n for n in storage.list_files(remote.root) if n.startswith("train/vocals-"))
    data = storage.read_bytes(f"{remote.root}/{name}")
    for wrong in (data[:-1] + b"?", data[:-1]):
        storage.write_bytes(f"{remote.root}/{name}", wrong)
        assert refused(remote) == (
            f"{remote.root}/{name}: its sha256 is not that of info.json: damaged: do this"
        )
    storage.remove(f"{remote.root}/{name}")
    assert refused(remote) == (
        f"{remote.root}/{name}: no such file, but info.json names it: do this"
    )
    folder = Path(f".work/features-cache/{remote.sha256}")
    kept = sums(folder)
    assert name not in kept
    storage.write_bytes(f"{remote.root}/{name}", data)
    assert kept.items() < sums(fetch(remote)).items()  # those before it stayed


def test_local_features_are_not_copied_but_checked(features: FeatureSet, in_tmp: Path) -> None:
    for name in storage.list_files(features.root):
        storage.write_bytes(f"f/{name}", storage.read_bytes(f"{features.root}/{name}"))
    local = FeatureSet.read_info("f")
    assert fetch(local) == Path("f")
    path = next(Path("f/valid").glob("mixture-*"))
    data = path.read_bytes()
    path.write_bytes(b"?" + data[1:])  # of the same size, as shards of an older run may be
    assert refused(local) == f"{path}: its sha256 is not that of info.json: damaged: do this"
    path.unlink()
    assert refused(local) == f"{path}: no such file, but info.json names it: do this"
    path.write_bytes(data)
    assert fetch(local) == Path("f")


def test_a_file_is_read_whole_only_once(features: FeatureSet, in_tmp: Path) -> None:
    for name in storage.list_files(features.root):
        storage.write_bytes(f"f/{name}", storage.read_bytes(f"{features.root}/{name}"))
    path = next(Path("f/valid").glob("mixture-*"))
    with local_features(FeatureSet.read_info("f"), SOURCES, advice="", remember=False):
        assert not Path(".work").exists()
    assert fetch(FeatureSet.read_info("f")) == Path("f")
    status, data = path.stat(), path.read_bytes()
    # The same size and time: only reading it would show the difference.
    path.write_bytes(b"?" + data[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fetch(FeatureSet.read_info("f")) == Path("f")


def test_copies_of_other_features_go_unless_a_run_reads_them(remote: FeatureSet) -> None:
    for name in ("a", "b"):
        storage.write_bytes(f".work/features-cache/{name}/info.json", b"")
    with Path(".work/features-cache/b.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as another run does
        fetch(remote)
    left = sorted(path.name for path in Path(".work/features-cache").iterdir() if path.is_dir())
    assert left == sorted([remote.sha256, "b"])


def test_a_disk_that_is_too_small(remote: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stemforge.pipelines.running.work.shutil.disk_usage",
        lambda path: type("D", (), {"free": 0}),
    )
    assert "copying features needs 0.00 GB and 0.00 GB is free" in refused(remote)
