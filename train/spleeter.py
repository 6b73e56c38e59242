"""Deezer's official checkpoints as model directories of ours.

A checkpoint holds all stems' nets under one numbering: Keras counted its layers on from
stem to stem, so the k-th stem owns conv2d 7k to 7k + 6 (six encoder blocks and the mask),
conv2d_transpose 6k to 6k + 5 and batch_normalization 12k to 12k + 11 (six of the encoder,
of which nothing uses the sixth, and six of the decoder).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from features.audio import SAMPLE_RATE_HZ
from features.errors import UserError
from train import unet
from train.unet import NORM_EPSILON, Activation, Net, StemModel

DEPTH = 6
WIDTH = 16
NORMS = 2 * DEPTH
DEAD_NORM = DEPTH - 1  # the encoder's sixth, whose output nothing reads
NOT_WEIGHTS = ("global_step",)
# What the official configurations say where theirs is not the default
# (conv_activation LeakyReLU, deconv_activation ReLU, F 1024).
STEMS = {
    "2stems": ("vocals", "accompaniment"),
    "4stems": ("vocals", "drums", "bass", "other"),
}
ACTIVATIONS: dict[str, Activation] = {"ELU": "elu", "ReLU": "relu", "LeakyReLU": "leaky_relu"}


@dataclass(frozen=True)
class Configuration:
    """What a checkpoint does not say of itself.

    Attributes:
        stems: in the order of the checkpoint.
        encoder_activation: of the encoder's blocks.
        decoder_activation: of the decoder's blocks.
        frames: T.
        bins: F.
        frame_length_samples: of the STFT.
        frame_step_samples: of the STFT.
    """

    stems: tuple[str, ...]
    encoder_activation: Activation
    decoder_activation: Activation
    frames: int = 512
    bins: int = 1024
    frame_length_samples: int = 4096
    frame_step_samples: int = 1024


def official_configurations() -> dict[str, Configuration]:
    """Deezer's own, by name; the -16kHz variants see half as many bins again."""
    found = {
        "2stems": Configuration(STEMS["2stems"], "leaky_relu", "relu"),
        "4stems": Configuration(STEMS["4stems"], "elu", "elu"),
    }
    for name, given in list(found.items()):
        found[f"{name}-16kHz"] = Configuration(
            given.stems, given.encoder_activation, given.decoder_activation, bins=1536
        )
    return found


def read_configuration(path: Path) -> Configuration:
    """Reads Spleeter's JSON configuration of a model.

    Raises:
        UserError: it is missing, not JSON, lacks a key, or describes a net of another kind.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model = data["model"]
        if model["type"] != "unet.unet":
            raise UserError(
                f"{path}: model.type={model['type']}: only unet.unet (a sigmoid per stem) can "
                "be imported; unet.softmax_unet (5stems) has one softmax over all stems"
            )
        if data["sample_rate"] != SAMPLE_RATE_HZ or data["n_channels"] != 2:
            raise UserError(f"{path}: only {SAMPLE_RATE_HZ} Hz stereo can be imported")
        shape = model.get("params", {})
        return Configuration(
            tuple(data["instrument_list"]),
            ACTIVATIONS[shape.get("conv_activation", "LeakyReLU")],
            ACTIVATIONS[shape.get("deconv_activation", "ReLU")],
            frames=data["T"],
            bins=data["F"],
            frame_length_samples=data["frame_length"],
            frame_step_samples=data["frame_step"],
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    except KeyError as error:
        raise UserError(f"{path}: no or unknown {error}") from None


def read_checkpoint(folder: Path) -> dict[str, NDArray[Any]]:
    """All variables of a TensorFlow 1 checkpoint by name.

    Raises:
        UserError: there is none in the folder, or it is damaged.
    """
    newest = tf.train.latest_checkpoint(folder)
    if newest is None:
        raise UserError(f"{folder}: no checkpoint in it (a file named checkpoint, *.index, ...)")
    try:
        reader = tf.train.load_checkpoint(newest)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, RuntimeError, IndexError) as error:  # the last of a short file
        raise UserError(f"{newest}: not a readable checkpoint: {error}") from None


def infer_configuration(values: Mapping[str, NDArray[Any]]) -> Configuration:
    """The official configuration with as many stems as a checkpoint has nets.

    Raises:
        UserError: none has.
    """
    masks = sum(1 for name in values if name.startswith("conv2d_transpose") and "kernel" in name)
    stems = masks // DEPTH
    for configuration in official_configurations().values():
        if len(configuration.stems) == stems:
            return configuration
    raise UserError(
        f"the checkpoint holds {stems} nets: no official model of sigmoid nets does "
        f"({', '.join(official_configurations())}): give its configuration"
    )


def import_models(
    values: Mapping[str, NDArray[Any]],
    configuration: Configuration,
    *,
    provenance: Mapping[str, Any],
) -> list[StemModel]:
    """Turns a checkpoint's variables into our nets, each variable used once.

    Args:
        values: variables by name.
        configuration: what they belong to.
        provenance: for the models' cards; what was left out on purpose is added.

    Raises:
        UserError: a variable is missing, of another shape, or left over.
    """
    rest = dict(values)
    skipped = [name for name in NOT_WEIGHTS if rest.pop(name, None) is not None]
    net = Net(
        frames=configuration.frames,
        bins=configuration.bins,
        width=WIDTH,
        depth=DEPTH,
        norm="affine",
        dropout=0.0,
        encoder_activation=configuration.encoder_activation,
        decoder_activation=configuration.decoder_activation,
    )
    taken = [_take_net(rest, number, net) for number in range(len(configuration.stems))]
    skipped += [name for _, dead in taken for name in dead]
    if rest:
        raise UserError(
            f"{len(rest)} variables of the checkpoint belong to no stem, such as {min(rest)}: "
            f"is it of {', '.join(configuration.stems)}?"
        )
    card = {**provenance, "not_imported": skipped}
    models = []
    for stem, (weights, _) in zip(configuration.stems, taken, strict=True):
        keras_model = unet.build(net)
        unet.set_weights(keras_model, weights)
        models.append(
            StemModel(
                stem=stem,
                net=net,
                frame_length_samples=configuration.frame_length_samples,
                frame_step_samples=configuration.frame_step_samples,
                sample_rate_hz=SAMPLE_RATE_HZ,
                provenance=card,
                keras_model=keras_model,
            )
        )
    return models


def _take_net(
    rest: dict[str, NDArray[Any]], number: int, net: Net
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Takes one stem's variables out of `rest`: our weights, and names of what nothing uses."""
    shapes = {weight.path: tuple(weight.shape) for weight in unet.build(net).weights}
    weights: dict[str, NDArray[np.float32]] = {}

    def take(layer: str, index: int, part: str) -> NDArray[np.float32]:
        name = f"{layer}_{index}/{part}" if index else f"{layer}/{part}"
        try:
            return np.asarray(rest.pop(name), np.float32)
        except KeyError:
            raise UserError(f"the checkpoint has no {name}, which stem {number} needs") from None

    convolutions = [f"encoder_{level}" for level in range(DEPTH)] + ["mask"]
    for offset, ours in enumerate(convolutions):
        for part in ("kernel", "bias"):
            weights[f"{ours}/{part}"] = take("conv2d", len(convolutions) * number + offset, part)
    for level in range(DEPTH):
        for part in ("kernel", "bias"):
            found = take("conv2d_transpose", DEPTH * number + level, part)
            weights[f"decoder_{level}/{part}"] = found
    dead = []
    for offset in range(NORMS):
        index = NORMS * number + offset
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        norm = [take("batch_normalization", index, part) for part in names]
        if offset == DEAD_NORM:
            dead.append(f"batch_normalization_{index}")
            continue
        side = "encoder" if offset < DEPTH else "decoder"
        gamma, beta = fold_norm(*norm)
        weights[f"{side}_norm_{offset % DEPTH}/gamma"] = gamma
        weights[f"{side}_norm_{offset % DEPTH}/beta"] = beta
    for path, shape in shapes.items():
        if weights[path].shape != shape:
            raise UserError(f"stem {number}: {path} has shape {weights[path].shape}, not {shape}")
    return weights, dead


def fold_norm(
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
) -> Sequence[NDArray[np.float32]]:
    """Batch norm with fixed statistics as an Affine's gamma and beta, float32 [channels].

    gamma (x - mean) / sqrt(variance + eps) + beta = gamma' x / sqrt(1 + eps) + beta'.
    """
    gain = gamma / np.sqrt(variance + NORM_EPSILON)
    return gain * np.float32(np.sqrt(1.0 + NORM_EPSILON)), beta - gain * mean
