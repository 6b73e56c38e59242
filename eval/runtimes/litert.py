"""Nets from TFLite files, run by LiteRT alone: TensorFlow is not loaded."""

import ctypes
import dataclasses
import json
import mmap
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from stemforge.errors import FramesError, UserError
from stemforge.quiet import quiet_stderr
from stemforge.text import parse_json
from stemforge.train.model_files import Interface

SIGNATURE = "estimate"
METADATA = "stemforge"  # name of the buffer that holds an Interface as JSON
MOST_BUFFERS = 1000  # of metadata; converters write one or two


def with_interface(file: bytes, interface: Interface) -> bytes:
    """Adds an Interface to a TFLite file, as JSON in a metadata buffer."""
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
    """Inputs and outputs of a TFLite file that stemforge exported.

    Raises:
        UserError: the file is missing, not a TFLite file, damaged, or not exported by
            stemforge.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    file: Any = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    if bytes(file[4:8]) != b"TFL3":
        raise UserError(f"{path}: not a TFLite file")
    try:
        text = _metadata(file)
    # What flatbuffers raises where an offset or a length leads out of the file.
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged: copy or export it again") from None
    if text is None:
        raise UserError(f"{path}: not a TFLite file of stemforge: write it with `stemforge export`")
    try:
        return Interface.from_json(parse_json(text))
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: its metadata: {error}: copy or export it again") from None


def has_signature(path: Path) -> bool:
    """Whether a file of stemforge holds nets alone, from magnitudes to magnitudes."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    keys = [model.SignatureDefs(n).SignatureKey() for n in range(model.SignatureDefsLength())]
    return SIGNATURE.encode() in keys


def _metadata(file: Any) -> bytes | None:
    """The contents of the buffer METADATA; None where there is none."""
    model = schema.Model.GetRootAs(file, 0)
    count = model.MetadataLength()
    if count > MOST_BUFFERS:
        raise ValueError(f"{count} metadata buffers")
    for number in range(count):
        entry = model.Metadata(number)
        if entry.Name() == METADATA.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


class LiteRTNets:
    """One model's nets in a TFLite file.

    Args:
        path: of the file.
        threads: how many LiteRT uses.
        frames: number of frames that the nets process at once; None: as exported.

    Raises:
        FramesError: the nets do not run on so many frames.
        UserError: see `read_interface`, or LiteRT cannot read the file.
    """

    def __init__(self, path: Path, *, threads: int, frames: int | None = None) -> None:
        exported = read_interface(path)
        wanted = exported.frames if frames is None else frames
        self.interface = dataclasses.replace(exported, frames=wanted)
        try:
            with quiet_stderr():  # LiteRT prints which device it uses
                interpreter = Interpreter(str(path), num_threads=threads)
                if wanted != exported.frames and not _resize(interpreter, self.interface):
                    raise FramesError(
                        f"{path}: its nets do not run on frames={wanted}: use "
                        f"{exported.frames}, as exported, or a model directory"
                    )
                interpreter.allocate_tensors()
                self._run = interpreter.get_signature_runner(SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not readable as a TFLite file: {error}") from None
        _release_pages(path)

    def __call__(self, mixture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Estimates the stems' magnitudes.

        Args:
            mixture: float32 [frames, bins, 2], magnitudes.

        Returns:
            float32 [frames, bins, 2] per stem.
        """
        found = self._run(mixture=mixture[None])
        return {stem: np.asarray(found[stem])[0] for stem in self.interface.stems}


def _resize(interpreter: Interpreter, interface: Interface) -> bool:
    """Gives all tensors the interface's number of frames; returns whether they can have it."""
    (mixture,) = interpreter.get_input_details()
    shape = [1, interface.frames, interface.bins, 2]
    try:
        interpreter.resize_tensor_input(mixture["index"], shape)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError):
        return False
    return True


def _release_pages(path: Path) -> None:
    """Frees the memory of a mapped file; later reads come from the disk.

    XNNPACK has copied the weights into its own order by then, but LiteRT keeps the file mapped:
    35 MB per net that nothing uses.
    """
    if sys.platform != "linux":
        return
    place = str(path.resolve())
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(f" {place}"):
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            if madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED):
                raise OSError(ctypes.get_errno(), "madvise", place)
