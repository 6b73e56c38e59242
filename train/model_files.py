"""Model directories and TFLite files: finding and reading them, without building a net."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.signal.framing import Framing

MODEL_VERSION = 2
JOINT = "joint"  # name of a model of several stems
TFLITE_SUFFIX = "-float32.tflite"


def model_name(stems: Sequence[str]) -> str:
    """The stem's, or "joint" for several: what a model's folder and stage are called."""
    return stems[0] if len(stems) == 1 else JOINT


@dataclass(frozen=True)
class Interface:
    """What goes into a model's nets and what comes out.

    Attributes:
        stems: what they estimate: one stem, or all that share a softmax.
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
        """From model.json's values."""
        return cls(
            stems=tuple(card["stems"]),
            frames=card["net"]["frames"],
            bins=card["net"]["bins"],
            frame_length_samples=card["frame_length_samples"],
            frame_step_samples=card["frame_step_samples"],
            sample_rate_hz=card["sample_rate_hz"],
        )


def model_files(model: Path) -> list[Path]:
    """The files that a model consists of: of its directory, or its .tflite file."""
    return [model / "model.json", model / "weights.npz"] if model.suffix != ".tflite" else [model]


def read_card(folder: Path) -> dict[str, Any]:
    """Reads model.json.

    Raises:
        UserError: it is missing, not JSON, or of another version.
    """
    path = folder / "model.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no model.json in it: not a model directory") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if card.get("version") != MODEL_VERSION:
        raise UserError(
            f"{path}: model version {card.get('version')} is not {MODEL_VERSION}: train or "
            "import it again"
        )
    return card


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Reads weights.npz: "encoder_0/kernel" and so on, float32.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / "weights.npz"
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
    if (folder / "model.json").is_file():
        return [folder]
    if not folder.is_dir():
        if (folder.parent / JOINT / "model.json").is_file():
            raise UserError(
                f"{folder}: no such folder: all stems share a softmax in {folder.parent / JOINT}, "
                "and none can be had alone"
            )
        raise UserError(f"{folder}: no such folder")
    found = sorted(path.parent for path in folder.glob(f"*{os.sep}model.json"))
    if not found:
        raise UserError(f"{folder}: no model directory (with a model.json) in it")
    return found


def find_tflite(folder: Path) -> list[Path]:
    """The float32 TFLite files in a folder or in the folders in it, sorted; or the file itself.

    Raises:
        UserError: there is none.
    """
    if folder.is_file():
        return [folder]
    found = sorted([*folder.glob(f"*{TFLITE_SUFFIX}"), *folder.glob(f"*/*{TFLITE_SUFFIX}")])
    if not found:
        raise UserError(f"{folder}: no *{TFLITE_SUFFIX} in it, nor in the folders in it")
    return found
