"""Model directories and TFLite files: finding and reading them, without building a net."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.signal.framing import Framing
from stemforge.train.nets import FIRST_KIND, read_net

MODEL_VERSION = 3
FIELDS = (  # of model.json, beside its version
    *("stems", "net", "provenance"),
    *("frame_length_samples", "frame_step_samples", "sample_rate_hz"),
)
READABLE = (2, 3)  # in version 2 a net had no kind: all were train.nets.FIRST_KIND
CARD, WEIGHTS = "model.json", "weights.npz"  # the files of a model directory
JOINT = "joint"  # name of a model of several stems
TFLITE_SUFFIX = "-float32.tflite"


def model_name(stems: Sequence[str]) -> str:
    """Name of a model, its folder and its stage: the stem's, or "joint" for several stems."""
    return stems[0] if len(stems) == 1 else JOINT


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a model's nets.

    Attributes:
        stems: what they estimate: one stem, or all of a joint model.
        frames: frames in and out, T.
        bins: lowest bins of the STFT in and out, F.
        frame_length_samples: of the STFT.
        frame_step_samples: of the STFT.
        sample_rate_hz: of the audio.
    """

    stems: tuple[str, ...]
    frames: int
    bins: int
    frame_length_samples: int
    frame_step_samples: int
    sample_rate_hz: int

    @property
    def name(self) -> str:
        """See model_name."""
        return model_name(self.stems)

    @property
    def framing(self) -> Framing:
        """The STFT's."""
        return Framing(self.frame_length_samples, self.frame_step_samples)

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Interface":
        """Reads it from a model's card, as `read_card` returns it."""
        return cls(
            stems=tuple(card["stems"]),
            frames=card["net"].frames,
            bins=card["net"].bins,
            frame_length_samples=card["frame_length_samples"],
            frame_step_samples=card["frame_step_samples"],
            sample_rate_hz=card["sample_rate_hz"],
        )


def model_files(model: Path) -> list[Path]:
    """The files of a model: those of its directory, or its .tflite file."""
    return [model / CARD, model / WEIGHTS] if model.suffix != ".tflite" else [model]


def read_card(folder: Path) -> dict[str, Any]:
    """Reads model.json.

    Returns:
        Its values; "net" is a Net.

    Raises:
        UserError: it is missing or not JSON, or its version or kind of net is not supported.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD} in it: not a model directory") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    version = card.get("version") if isinstance(card, dict) else None
    if version not in READABLE:
        newer = isinstance(version, int) and version > MODEL_VERSION
        raise UserError(
            f"{path}: model version {version} is not supported; supported: "
            f"{', '.join(map(str, READABLE))}: "
            + ("update stemforge" if newer else "train or import the model again")
        )
    if missing := set(FIELDS) - card.keys():
        raise UserError(f"{path}: {min(missing)}: missing: train or import the model again")
    net = card["net"]
    if version == 2 and isinstance(net, dict):
        net = {"kind": FIRST_KIND, **net}
    try:
        return {name: card[name] for name in FIELDS} | {"net": read_net(net)}
    except UserError as error:
        raise UserError(f"{path}: net.{error}") from None


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Reads weights.npz: "encoder_0/kernel" and so on, float32.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / WEIGHTS
    try:
        with np.load(path) as values:
            return dict(values)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def find_model_folders(folder: Path) -> list[Path]:
    """Model directories: the folder itself, or those directly in it, sorted by name.

    Raises:
        UserError: there is none.
    """
    if (folder / CARD).is_file():
        return [folder]
    if not folder.is_dir():
        if (folder.parent / JOINT / CARD).is_file():
            raise UserError(
                f"{folder}: no such folder: one model holds all stems: give {folder.parent / JOINT}"
            )
        raise UserError(f"{folder}: no such folder")
    found = [path.parent for path in storage.visible(folder.glob(f"*/{CARD}"), folder)]
    if not found:
        raise UserError(f"{folder}: no model directory (with a {CARD}) in it")
    return found


def find_tflite(folder: Path) -> list[Path]:
    """The float32 TFLite files of a folder and its subfolders, sorted; or the file itself.

    Raises:
        UserError: there is none.
    """
    if folder.is_file():
        return [folder]
    found = storage.visible(
        [*folder.glob(f"*{TFLITE_SUFFIX}"), *folder.glob(f"*/*{TFLITE_SUFFIX}")], folder
    )
    if not found:
        raise UserError(f"{folder}: no *{TFLITE_SUFFIX} in it or in its subfolders")
    return found
