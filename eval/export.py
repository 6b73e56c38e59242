"""SavedModel and TFLite files of a net, and the proof that they compute what Keras does."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from eval.inference import Library, estimate, fold
from eval.litert import SIGNATURE, with_interface
from train.unet import Model, weights

Format = Literal["saved_model", "tflite_float32", "tflite_float16"]
FORMATS: tuple[Format, ...] = ("saved_model", "tflite_float32", "tflite_float16")
Magnitudes = NDArray[np.float32]


def export_name(model: str, kind: Format) -> str:
    """Name of an export's file or folder."""
    return {
        "saved_model": "saved_model",
        "tflite_float32": f"{model}-float32.tflite",
        "tflite_float16": f"{model}-float16.tflite",
    }[kind]


def write_export(model: Model, path: Path, kind: Format) -> None:
    """Writes one export: mixture magnitudes in, the stems' magnitudes out.

    All carry one signature, "estimate", from "mixture" to one output per stem, which has
    its name.

    Args:
        model: the trained nets.
        path: a new folder for "saved_model" (any batch size), a new file for TFLite (batch 1).
        kind: which format.
    """
    if kind == "saved_model":
        _write_saved_model(model, path, batch=None, library="onednn")
        return
    # By way of a SavedModel: converted from a bare function, the file computes NaN.
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(model, Path(folder), batch=1, library="xnnpack")
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if kind == "tflite_float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(with_interface(converter.convert(), model.interface))


def _write_saved_model(model: Model, path: Path, *, batch: int | None, library: Library) -> None:
    net = model.net
    spec = tf.TensorSpec((batch, net.frames, net.bins, 2), tf.float32, name="mixture")
    module = tf.Module()
    module.weights = [
        {name: tf.Variable(value) for name, value in values.items()}
        for values in fold(weights(model.keras_model), net, model.stems, library=library)
    ]

    @tf.function(input_signature=[spec], autograph=False)  # type: ignore[untyped-decorator]
    def run(mixture: Any) -> dict[str, Any]:
        found = estimate(mixture, module.weights, net=net, library=library)
        return dict(zip(model.stems, found, strict=True))

    tf.saved_model.save(module, str(path), signatures={SIGNATURE: run})


def run_export(path: Path, kind: Format, mixture: Magnitudes) -> dict[str, Magnitudes]:
    """Runs an export as its users would: TensorFlow's loader, or LiteRT's interpreter.

    Args:
        path: the file or folder.
        kind: its format.
        mixture: float32 [1, frames, bins, 2].

    Returns:
        float32 of the same shape, per stem.
    """
    if kind == "saved_model":
        loaded = tf.saved_model.load(str(path))
        found = loaded.signatures[SIGNATURE](mixture=tf.constant(mixture))
        return {stem: np.asarray(values) for stem, values in found.items()}
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner(SIGNATURE)
    return {stem: np.asarray(values) for stem, values in runner(mixture=mixture).items()}


@dataclass(frozen=True)
class Parity:
    """How far an export is from Keras on the same input.

    Attributes:
        finite: every output value is.
        max_difference: largest absolute difference, magnitude units.
        rms_difference: root mean square difference, magnitude units.
        relative_difference: rms_difference over the rms of Keras' output.
    """

    finite: bool
    max_difference: float
    rms_difference: float
    relative_difference: float


def compare(export: Magnitudes, keras_output: Magnitudes) -> Parity:
    """Measures the difference of two outputs of the same shape."""
    difference = export.astype(np.float64) - keras_output
    rms = _rms(difference)
    level = _rms(keras_output)
    return Parity(
        finite=bool(np.isfinite(export).all()),
        max_difference=float(np.max(np.abs(difference))),
        rms_difference=rms,
        relative_difference=rms / level if level > 0.0 else rms,
    )


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
