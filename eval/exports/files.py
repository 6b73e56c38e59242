"""SavedModel and TFLite files of nets."""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

from stemforge.errors import UserError
from stemforge.eval.runtimes.litert import SIGNATURE, with_interface
from stemforge.eval.separation.graph import GraphNets, separate_segment, separate_song
from stemforge.eval.separation.separator import common_interface
from stemforge.train.config import TFLITE_FORMATS, TFLiteFormat
from stemforge.train.model import Model, weights_of
from stemforge.train.nets.protocol import Library, Lowered, Net

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")
SAVED_MODEL = "saved_model"
SEPARATE = "separate"  # signature from waveform to waveforms


def formats_of(model: Model) -> list[TFLiteFormat]:
    """The formats that a model's nets support."""
    mixed = bool(model.net.int8_layers())
    return [kind for kind in TFLITE_FORMATS if mixed or kind != "int8_mixed"]


def write_saved_model(models: Sequence[Model], path: Path) -> None:
    """Writes all models' nets as one SavedModel, which TensorFlow runs without our code.

    It has two signatures. "estimate": from "mixture", float32 [batch, frames, bins, 2],
    magnitudes, to the same for each stem by its name. "separate": from "waveform", float32
    [samples, 2] of any length, full scale at 1, to the same for each stem.

    Args:
        models: nets of all stems.
        path: a new folder.

    Raises:
        UserError: the models have different STFTs or a stem in common.
    """
    interface = common_interface([model.interface for model in models])
    module = tf.Module()
    nets = _variables(module, models, library="onednn")
    mixture = tf.TensorSpec((None, interface.frames, interface.bins, 2), tf.float32, "mixture")
    waveform = tf.TensorSpec((None, 2), tf.float32, "waveform")

    @tf.function(input_signature=[mixture], autograph=False)  # type: ignore[untyped-decorator]
    def estimate(mixture: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for net in nets:
            found |= net(mixture)
        return found

    @tf.function(input_signature=[waveform], autograph=False)  # type: ignore[untyped-decorator]
    def separate(waveform: Any) -> dict[str, Any]:
        return separate_song(waveform, nets)

    _save(module, path, {SIGNATURE: estimate, SEPARATE: separate})


def to_tflite(model: Model) -> bytes:
    """One model's nets as a float32 TFLite file, magnitudes in and out, for a batch of one.

    Its signature is "estimate", from "mixture" to one output per stem, by its name.
    """
    net = model.net
    spec = tf.TensorSpec((1, net.frames, net.bins, 2), tf.float32, name="mixture")
    module = tf.Module()
    (nets,) = _variables(module, [model], library="xnnpack")

    @tf.function(input_signature=[spec], autograph=False)  # type: ignore[untyped-decorator]
    def run(mixture: Any) -> dict[str, Any]:
        found: dict[str, Any] = nets(mixture)
        return found

    return with_interface(_convert(module, {SIGNATURE: run}), model.interface)


def resized(model: Model, frames: int) -> Net:
    """A model's nets for segments of this many frames.

    Raises:
        UserError: they do not support that length, or it is too short for segments to overlap.
    """
    net, interface = model.net.resized(frames=frames), model.interface
    if frames * interface.frame_step_samples < interface.frame_length_samples:
        least = -(-interface.frame_length_samples // interface.frame_step_samples)
        raise UserError(f"frames={frames}: too short for segments to overlap: use {least} or more")
    return net


def write_segment_tflite(models: Sequence[Model], path: Path, *, frames: int) -> None:
    """Writes a TFLite file of all stems' nets, waveform in and waveforms out.

    Its signature is "separate", from "waveform", float32 [(frames - 1) * hop + length, 2], to the
    same for each stem by its name; see eval.separation.graph.separate_segment. Built-in operators
    only, weights in float16.

    Args:
        models: nets of all stems.
        path: a new file.
        frames: length of a segment.

    Raises:
        UserError: the nets do not support that length, or the models have different STFTs or a
            stem in common.
    """
    models = [dataclasses.replace(model, net=resized(model, frames)) for model in models]
    interface = common_interface([model.interface for model in models])
    module = tf.Module()
    nets = _variables(module, models, library="xnnpack")
    shape = (interface.framing.span(frames), 2)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec(shape, tf.float32, name="waveform")], autograph=False
    )
    def run(waveform: Any) -> dict[str, Any]:
        return separate_segment(waveform, nets, frames=frames)

    file = with_interface(_convert(module, {SEPARATE: run}), interface)
    path.write_bytes(shrink(file, "float16"))


def shrink(file: bytes, kind: TFLiteFormat, *, int8_layers: Sequence[str] = ()) -> bytes:
    """Converts the layers' weights of a float32 TFLite file; all else is unchanged.

    TensorFlow's own converter would convert every constant to float16. The masks' 1e-10 would then
    become zero, and silence NaN.

    Args:
        file: of `to_tflite` or `write_segment_tflite`.
        kind: "float32" changes nothing; "float16" and "int8_weights" compute in float32;
            "int8_mixed" computes some layers in int8, and scales their inputs at run time.
        int8_layers: those layers, as the net names them.
    """
    if kind == "float32":
        return file
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    mixed = kind == "int8_mixed"
    if kind == "float16":
        kernels = qtyping.TensorQuantizationConfig(16, dtype=qtyping.TensorDataType.FLOAT)
        algorithm = AlgorithmName.FLOAT_CASTING
    else:
        by_channel = qtyping.QuantGranularity.CHANNELWISE
        kernels = qtyping.TensorQuantizationConfig(8, symmetric=True, granularity=by_channel)
        algorithm = AlgorithmName.MIN_MAX_UNIFORM_QUANT
    precision = qtyping.ComputePrecision.INTEGER if mixed else qtyping.ComputePrecision.FLOAT
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=kernels, compute_precision=precision, explicit_dequantize=not mixed
    )
    # With several nets in one file, all except the first have a number after the layer's name.
    names = [rf"(^|[;/]){layer}(_\d+)?/" for layer in int8_layers] if mixed else [".*"]
    work = quantizer.Quantizer(file)
    for name, operation in itertools.product(names, WITH_WEIGHTS):
        work.update_quantization_recipe(
            regex=name,
            operation_name=qtyping.TFLOperationName[operation],
            op_config=config,
            algorithm_key=algorithm,
        )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return bytes(work.quantize().quantized_model)  # prints sizes and a bar


def _variables(module: Any, models: Sequence[Model], *, library: Library) -> list[GraphNets]:
    """Nets whose weights are variables of a module, which a SavedModel must track."""
    nets = []
    for model in models:
        lowered = model.net.lowered(weights_of(model.keras_model), model.stems, library=library)
        values = tf.nest.map_structure(tf.Variable, lowered.values)
        nets.append(GraphNets(model.interface, Lowered(values, lowered.run)))
    module.weights = [net.lowered.values for net in nets]
    return nets


def _save(module: Any, path: Path, signatures: Mapping[str, Any]) -> None:
    try:
        tf.saved_model.save(module, str(path), signatures=dict(signatures))
    except tf.errors.OpError as error:  # TensorFlow raises it when the disk is full
        reason = error.message.split(";")[-1].split(" [Op:")[0].strip()
        raise UserError(f"{path}: cannot be written: {reason}") from None
    _name_by_content(path / "fingerprint.pb")


def _name_by_content(path: Path) -> None:
    """Replaces the only random part of a SavedModel, its fingerprint's uuid, by a hash."""
    fingerprint = FingerprintDef()
    fingerprint.ParseFromString(path.read_bytes())
    fingerprint.uuid = ""
    digest = hashlib.sha256(fingerprint.SerializeToString(deterministic=True)).digest()
    fingerprint.uuid = str(int.from_bytes(digest[:16]))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _convert(module: Any, signatures: Mapping[str, Any]) -> bytes:
    # Through a SavedModel: a file converted from a plain function computes NaN.
    with tempfile.TemporaryDirectory() as folder:
        _save(module, Path(folder), signatures)
        keys = [*signatures]
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=keys)
        return bytes(converter.convert())


def runner(path: Path, signature: str) -> Callable[..., dict[str, NDArray[Any]]]:
    """Loads an export as users do: by TensorFlow's loader, or by LiteRT.

    Args:
        path: a SavedModel's folder or a TFLite file.
        signature: "estimate" or "separate".

    Returns:
        A function from "mixture" or "waveform", float32, by name, to float32 per stem.
    """
    if path.is_dir():
        loaded = tf.saved_model.load(str(path))

        def run(**inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            found = loaded.signatures[signature](**tensors)
            return {stem: values.numpy() for stem, values in found.items()}

        return run
    from ai_edge_litert.interpreter import Interpreter

    signature_runner = Interpreter(str(path)).get_signature_runner(signature)

    def run_lite(**inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {stem: np.asarray(v) for stem, v in signature_runner(**inputs).items()}

    return run_lite
