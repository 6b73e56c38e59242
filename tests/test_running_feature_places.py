"""Where features are, where they go, and what DVC keeps of those that are elsewhere."""

import json
import uuid
from pathlib import Path

import pytest

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.workers import launching
from stemforge.pipelines.running.feature_output import claim_output, new_features, record_features
from stemforge.pipelines.running.feature_places import PLACE, features_place, recorded_features


@pytest.fixture
def place(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """STEMFORGE_FEATURES, an empty folder of an object store; the current folder is empty."""
    url = f"memory://{uuid.uuid4()}/features"
    monkeypatch.setenv(PLACE, url)
    return url


def copy(features: FeatureSet, place: str) -> None:
    for name in storage.list_files(features.root):
        storage.write_bytes(f"{place}/{name}", storage.read_bytes(f"{features.root}/{name}"))


def refused(place: str, *, is_shared: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        claim_output(place, label="F", is_shared=is_shared)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", "data/features"),
        ("gs://b/features//", "gs://b/features"),
        ("/mnt/disk/features/", "/mnt/disk/features"),
        ("{here}/data/features/", "data/features"),
    ],
)
def test_the_variable_names_the_place(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, value: str, found: str
) -> None:
    monkeypatch.setenv(PLACE, value.format(here=in_tmp))
    assert features_place() == found


def test_a_relative_place_is_refused(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, "../features/")
    with pytest.raises(UserError, match=r"STEMFORGE_FEATURES=../features/: a relative path.*URL"):
        features_place()


@pytest.mark.parametrize("value", ["data/features/mine", "data", "link"])
def test_a_place_that_would_replace_the_outputs_of_dvc_is_refused(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    Path("link").symlink_to("data/features/train")
    monkeypatch.setenv(PLACE, str(in_tmp / value))
    with pytest.raises(UserError) as caught:
        features_place()
    assert str(caught.value) == (
        f"STEMFORGE_FEATURES={in_tmp / value}: contains data/features, or is inside it, and the "
        f"stage replaces both folders: choose one elsewhere, or {in_tmp}/data/features itself"
    )
    monkeypatch.setenv(PLACE, str(in_tmp / "data" / "features-of-mine"))
    assert features_place() == str(in_tmp / "data" / "features-of-mine")


def test_dvc_gets_the_card_and_old_local_shards_go(place: str, features: FeatureSet) -> None:
    copy(features, place)
    storage.write_bytes("data/features/train/vocals-00000-of-00001.tfrecord", b"old")
    record_features(place, Path("work"))
    assert storage.list_files("data/features") == ["info.json", "rejects.parquet"]
    recorded = Path("data/features/info.json").read_bytes()
    assert recorded == (Path(features.root) / "info.json").read_bytes()
    assert recorded_features().root == place


def test_other_features_at_the_place_are_refused(
    place: str, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"data/features: no info.json in it"):
        recorded_features()
    copy(features, place)
    record_features(place, Path("work"))
    info = json.loads(storage.read_bytes(f"{place}/info.json")) | {"block_frames": 33}
    storage.write_bytes(f"{place}/info.json", json.dumps(info).encode())
    with pytest.raises(UserError) as caught:
        recorded_features()
    assert str(caught.value) == (
        f"STEMFORGE_FEATURES={place}: its info.json is not data/features/info.json, so it holds "
        "other features: name the place of these, or compute them again (dvc repro --force "
        "--single-item features)"
    )
    storage.remove(f"{place}/info.json")
    with pytest.raises(UserError, match=rf"STEMFORGE_FEATURES: {place}: no info.json in it"):
        recorded_features()
    monkeypatch.delenv(PLACE)
    assert recorded_features().sha256 == features.sha256


def test_only_own_features_are_replaced(
    place: str, features: FeatureSet, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_output(place, label="F", is_shared=True)
    copy(features, place)
    record_features(place, Path("work"))
    claim_output(place, label="F", is_shared=True)
    with launching(place, decodes=False):
        assert storage.list_files(place) == []
    copy(features, place)
    (in_tmp / "another checkout").mkdir()
    monkeypatch.chdir(in_tmp / "another checkout")
    line = refused(place)
    assert line.startswith("F: holds features that this checkout has not recorded as its own: ")
    assert f"or remove {place}/info.json" in line
    assert FeatureSet.open(place).sha256 == features.sha256
    claim_output(place, label="F", is_shared=False)  # --output, which a person has typed
    with launching(place, decodes=False):
        assert storage.list_files(place) == []


def test_a_place_that_another_checkout_has_filled_meanwhile_is_refused(
    place: str, features: FeatureSet
) -> None:
    """This checkout claimed it and failed, or wrote there before."""
    claim_output(place, label="F", is_shared=True)
    copy(features, place)
    assert "not recorded as its own" in refused(place)
    record_features(place, Path("work"))
    claim_output(place, label="F", is_shared=True)
    text = storage.read_bytes(f"{place}/info.json")
    storage.write_bytes(f"{place}/info.json", text + b" ")
    assert "not recorded as its own" in refused(place)


def test_shards_of_a_killed_job_are_replaced_and_other_files_are_not(place: str) -> None:
    storage.write_bytes(f"{place}/train/vocals-00000-of-00002.tfrecord", b"x")
    storage.write_bytes(f"{place}/train/index-00000-of-00002.parquet", b"x")
    claim_output(place, label="F", is_shared=True)
    with launching(place, decodes=False):
        assert storage.list_files(place) == []
    storage.write_bytes(f"{place}/train/vocals.wav", b"x")
    assert "F: holds other files but no info.json" in refused(place, is_shared=False)
    assert storage.list_files(place) == ["train/vocals.wav"]


def test_a_place_that_cannot_be_a_folder_of_ours(in_tmp: Path) -> None:
    Path("file").touch()
    assert refused(str(in_tmp / "file")) == "F: not a folder: choose another place"
    assert "F: a disk's top folder" in refused("/proc")


def test_a_folder_takes_features_of_one_run_at_a_time(in_tmp: Path) -> None:
    folder = in_tmp / "disk" / "features"
    with new_features(folder, Path("work")) as out:
        (out / "ours").touch()
        with (
            pytest.raises(UserError, match="another process computes features for it"),
            new_features(folder, Path("work")),
        ):
            pass
    assert [path.name for path in folder.iterdir()] == ["ours"]


def test_new_features_replace_the_old_ones_when_complete(in_tmp: Path) -> None:
    folder = in_tmp / "disk" / "features"
    storage.write_bytes(str(folder / "old"), b"")

    def fail() -> None:
        with new_features(folder, Path("work")) as out:
            assert out.parent == folder.parent  # on the same disk
            storage.write_bytes(str(out / "half"), b"")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert storage.list_files(str(in_tmp), hidden=True) == ["disk/features/old"]
    with new_features(folder, Path("work")) as out:
        storage.write_bytes(str(out / "new"), b"")
    assert storage.list_files(str(in_tmp), hidden=True) == ["disk/features/new"]
