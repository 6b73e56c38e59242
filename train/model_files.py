"""Model directories and TFLite files: finding and reading them, without building a net."""

import dataclasses
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import JOINT, check_stem_names
from stemforge.features.signal.framing import Framing
from stemforge.text import brief, parse_json, show
from stemforge.train.config import TFLiteFormat
from stemforge.train.nets import FIRST_KIND, read_net
from stemforge.train.nets.protocol import MOST

MODEL_VERSION = 4
CARD_NUMBERS = ("frame_length_samples", "frame_step_samples", "sample_rate_hz")
FIELDS = ("stems", "net", "provenance", *CARD_NUMBERS)  # of model.json, beside its version
# In version 2 a net had no kind: all were train.nets.FIRST_KIND. Up to 3 that had no input_scale.
READABLE = (2, 3, 4)
CARD, WEIGHTS = "model.json", "weights.npz"  # the files of a model directory


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
    def top_hz(self) -> float:
        """The frequency up to which they estimate."""
        return self.bins * self.sample_rate_hz / self.frame_length_samples

    @property
    def framing(self) -> Framing:
        """The STFT's."""
        return Framing(self.frame_length_samples, self.frame_step_samples)

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Interface":
        """Takes it from a model's card, as `read_card` returns it."""
        net = card["net"]
        return cls(frames=net.frames, bins=net.bins, **{name: card[name] for name in CARD_NUMBERS},
                   stems=tuple(card["stems"]))  # fmt: skip

    @classmethod
    def from_json(cls, values: object) -> "Interface":
        """Reads the values of a file, as `dataclasses.asdict` made them.

        Raises:
            UserError: a field is missing, unknown, or has a wrong value; the message begins with
                its name.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict):
            raise UserError(f"{names[0]}: missing")
        if odd := sorted(set(names) ^ values.keys()):
            raise UserError(f"{show(odd[0])}: {'missing' if odd[0] in names else 'unknown key'}")
        stems, *numbers = (values[name] for name in names)
        if not isinstance(stems, list) or not stems:
            raise UserError(f"stems={show(stems)}: must be a list of names")
        try:
            check_stem_names(stems)
        except UserError as error:
            raise UserError(f"stems: {error}") from None
        for name, value in zip(names[1:], numbers, strict=True):
            if type(value) is not int or not 1 <= value <= MOST:
                raise UserError(f"{name}={show(value)}: must be a whole number from 1 on")
        found = cls(tuple(stems), *numbers)
        found.framing.check(found.bins)
        return found


def model_files(model: Path) -> list[Path]:
    """The files of a model: those of its directory, or its .tflite file."""
    return [model / CARD, model / WEIGHTS] if model.suffix != ".tflite" else [model]


def model_hashes(folders: Sequence[Path]) -> list[str]:
    """sha256 of each model's files, in their order.

    Raises:
        UserError: a file is missing.
    """
    files = [file for folder in folders for file in model_files(folder)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file: run `dvc repro` up to the train stages")
    return [storage.file_sha256(file) for file in files]


def read_card(folder: Path) -> dict[str, Any]:
    """Reads model.json.

    Returns:
        Its values; "net" is a Net.

    Raises:
        UserError: it is missing or not JSON, its version or kind of net is not supported, or a
            value is wrong.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD} in it: not a model directory") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    version = card.get("version") if isinstance(card, dict) else None
    if type(version) is not int or version not in READABLE:
        newer = isinstance(version, int) and version > MODEL_VERSION
        raise UserError(
            f"{path}: model version {show(version)} is not supported; supported: "
            f"{', '.join(map(str, READABLE))}: "
            + ("update stemforge" if newer else "train or import the model again")
        )
    if missing := set(FIELDS) - card.keys():
        raise UserError(f"{path}: {min(missing)}: missing: train or import the model again")
    net = card["net"]
    if version == 2 and isinstance(net, dict):
        net = {"kind": FIRST_KIND, **net}
    if version <= 3 and isinstance(net, dict) and net.get("kind") == FIRST_KIND:
        net = {"input_scale": "linear", **net}
    try:
        net = read_net(net)
    except UserError as error:
        raise UserError(f"{path}: net.{error}") from None
    sizes = {"frames": net.frames, "bins": net.bins}
    try:
        Interface.from_json({name: card[name] for name in ("stems", *CARD_NUMBERS)} | sizes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(card["provenance"], dict):
        raise UserError(f"{path}: provenance={show(card['provenance'])}: must be an object")
    return {name: card[name] for name in FIELDS} | {"net": net}


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Reads weights.npz: "encoder_0/kernel" and so on, float32.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / WEIGHTS
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _read_array(archive, member)
                for member in archive.infolist()
            }
    except FileNotFoundError:
        raise UserError(f"{folder}: no {WEIGHTS} in it: not a model directory") from None
    except (
        # ValueError: values that are not an array; NotImplementedError, RuntimeError: a member's
        # compression or encryption; the others: damage.
        *(OSError, EOFError, ValueError, NotImplementedError, RuntimeError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise UserError(
            f"{path}: not readable: {brief(error)}: copy or train the model again"
        ) from None


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[np.float32]:
    """An .npy file of float32 in an archive.

    np.load would first allocate what the array's header says, however much that is.

    Raises:
        ValueError: it is of another type, or its length is not what its header says.
    """
    size = os.fstat(archive.fp.fileno()).st_size  # type: ignore[union-attr]  # it is open
    if member.compress_size > size:  # zipfile would ask for as much memory
        raise ValueError(f"{member.filename}: longer than the file")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{member.filename}: .npy of version {version}, not (1, 0)")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    if dtype != np.dtype("<f4") or by_columns or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{member.filename}: not {show(shape)} values of float32")
    return np.frombuffer(data, "<f4").reshape(shape)


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


def tflite_name(model: str, kind: TFLiteFormat) -> str:
    """Name of a TFLite file of one model's nets."""
    return f"{model}-{kind.replace('_', '-')}.tflite"


def find_tflite(folder: Path, kind: TFLiteFormat = "float32") -> list[Path]:
    """The TFLite files of a folder and its subfolders, sorted; or the file itself.

    Args:
        folder: or a file of any format.
        kind: the files' format.

    Raises:
        UserError: there is none, or no such folder.
    """
    if folder.is_file():
        return [folder]
    if not folder.exists():
        raise UserError(f"{folder}: no such file or folder")
    name = tflite_name("*", kind)
    found = storage.visible([*folder.glob(name), *folder.glob(f"*/{name}")], folder)
    if not found:
        raise UserError(
            f"{folder}: no {name} in it or in its subfolders: `stemforge export` writes such files"
        )
    return found
