"""Nets from TFLite files, run by LiteRT alone: TensorFlow is not loaded."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from features.errors import UserError
from features.models import Interface

SIGNATURE = "estimate"
METADATA = "stemforge"  # name of the buffer that holds an Interface as JSON
SUFFIX = "-float32.tflite"


def with_interface(file: bytes, interface: Interface) -> bytes:
    """A TFLite file with its Interface added to it, as JSON in a metadata buffer."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))
    text = json.dumps(dataclasses.asdict(interface), sort_keys=True).encode()
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text, np.uint8)
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(file) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_interface(path: Path) -> Interface:
    """What goes into a TFLite file of ours and comes out.

    Raises:
        UserError: it is missing, no TFLite file, or not of ours.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    file: Any = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    if bytes(file[4:8]) != b"TFL3":
        raise UserError(f"{path}: not a TFLite file")
    model = schema.Model.GetRootAs(file, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == METADATA.encode():
            values = json.loads(bytes(model.Buffers(entry.Buffer()).DataAsNumpy()))
            return Interface(**values | {"stems": tuple(values["stems"])})
    raise UserError(f"{path}: it does not say what it separates: export it with stemforge")


def find_tflite(folder: Path) -> list[Path]:
    """The float32 TFLite files in a folder or in the folders in it, sorted; or the file itself.

    Raises:
        UserError: there is none.
    """
    if folder.is_file():
        return [folder]
    found = sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*/*{SUFFIX}")])
    if not found:
        raise UserError(f"{folder}: no *{SUFFIX} in it, nor in the folders in it")
    return found


class LiteRTNets:
    """One model's nets in a TFLite file.

    Args:
        path: of the file.
        threads: how many LiteRT uses.

    Raises:
        UserError: it is no TFLite file of ours.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        self.interface = read_interface(path)
        try:
            interpreter = Interpreter(str(path), num_threads=threads)
            self._run = interpreter.get_signature_runner(SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not readable as a TFLite file: {error}") from None

    def __call__(self, mixture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Estimates the stems' magnitudes.

        Args:
            mixture: float32 [frames, bins, 2], magnitudes.

        Returns:
            float32 [frames, bins, 2] per stem.
        """
        found = self._run(mixture=mixture[None])
        return {stem: np.asarray(found[stem])[0] for stem in self.interface.stems}
