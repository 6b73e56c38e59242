"""Where features are: STEMFORGE_FEATURES, and what DVC keeps of them in data/features/."""

import os
from contextlib import suppress
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.records import INFO
from stemforge.pipelines.paths import FEATURES
from stemforge.pipelines.running.workspaces import origin

PLACE = "STEMFORGE_FEATURES"


def features_place() -> str:
    """Where stage features writes and stage train reads: STEMFORGE_FEATURES, or data/features.

    Raises:
        UserError: the variable holds a relative path, or one in data/features or above it.
    """
    text = os.environ.get(PLACE, "")
    place = text.rstrip("/")
    if not text:
        return str(FEATURES)
    if storage.is_local(text):
        if not Path(text).is_absolute():
            raise UserError(
                f"{PLACE}={text}: a relative path, and experiments run in folders of their own: "
                "write the whole path, or a URL such as gs://bucket/features"
            )
        named, ours = Path(text).resolve(), FEATURES.resolve()
        if named == ours:
            return str(FEATURES)
        if named in ours.parents or ours in named.parents:
            raise UserError(
                f"{PLACE}={text}: contains {FEATURES}, or is inside it, and the stage replaces "
                f"both folders: choose one elsewhere, or {ours} itself"
            )
    return place


def _of_the_checkout(recorded: FeatureSet) -> FeatureSet | None:
    """In a temporary workspace: the same features in the checkout, whose shards DVC left there."""
    checkout = origin()
    if checkout is None or any(FEATURES.glob("*/*.tfrecord")):
        return None
    with suppress(UserError):
        found = FeatureSet.read_info(str(checkout / FEATURES))
        return found if found.sha256 == recorded.sha256 else None
    return None


def recorded_features() -> FeatureSet:
    """The features that data/features/info.json names, where STEMFORGE_FEATURES says.

    Raises:
        UserError: there are none, or there are others at that place.
    """
    recorded = FeatureSet.read_info(str(FEATURES))
    place = features_place()
    if place == str(FEATURES):
        return _of_the_checkout(recorded) or recorded
    try:
        found = FeatureSet.read_info(place)
    except UserError as error:
        raise UserError(f"{PLACE}: {error} (dvc repro --force --single-item features)") from None
    if found.sha256 != recorded.sha256:
        raise UserError(
            f"{PLACE}={place}: its {INFO} is not {FEATURES / INFO}, so it holds other features: "
            "name the place of these, or compute them again (dvc repro --force --single-item "
            "features)"
        )
    return found
