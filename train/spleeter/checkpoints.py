"""Converts Deezer's official checkpoints into our models.

A checkpoint holds all stems' nets, whose layers Keras numbered consecutively. So stem k has
conv2d 7k to 7k + 6 (six encoder blocks and the mask), conv2d_transpose 6k to 6k + 5 and
batch_normalization 12k to 12k + 11 (six of the encoder, of which nothing uses the sixth, and six
of the decoder).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.train.nets.protocol import NORM_EPSILON
from stemforge.train.nets.unet import UNet, folding
from stemforge.train.spleeter.bundle import newest_checkpoint, read_bundle
from stemforge.train.spleeter.configuration import DEPTH, Configuration, official_configurations

if TYPE_CHECKING:
    from stemforge.train.model import Model

NORMS = 2 * DEPTH
DEAD_NORM = DEPTH - 1  # the encoder's sixth, whose output nothing uses
NOT_WEIGHTS = ("global_step",)


def read_checkpoint(folder: Path) -> dict[str, NDArray[Any]]:
    """All variables of a TensorFlow checkpoint by name.

    Raises:
        UserError: there is none in the folder, or it is damaged.
    """
    return read_bundle(newest_checkpoint(folder))


def infer_configuration(values: Mapping[str, NDArray[Any]]) -> Configuration:
    """The official configuration with as many stems as a checkpoint has nets.

    Raises:
        UserError: there is none.
    """
    masks = sum(1 for name in values if name.startswith("conv2d_transpose") and "kernel" in name)
    stems = masks // DEPTH
    for configuration in official_configurations().values():
        if len(configuration.stems) == stems:
            return configuration
    raise UserError(
        f"the checkpoint has {stems} nets, unlike all official ones "
        f"({', '.join(official_configurations())}): give its configuration"
    )


@dataclass(frozen=True)
class ImportedNets:
    """The nets of one model, from a checkpoint.

    Attributes:
        stems: one, or all that share a softmax.
        weights: float32, by the names of a model directory.
    """

    stems: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float32]]


def import_nets(
    values: Mapping[str, NDArray[Any]], configuration: Configuration
) -> tuple[list[ImportedNets], list[str]]:
    """Converts a checkpoint's variables into our nets' weights; each variable is used once.

    Args:
        values: variables by name.
        configuration: of the checkpoint.

    Returns:
        One model's nets per stem, or those of all stems where they share a softmax; and the
        names of variables left out on purpose.

    Raises:
        UserError: a variable is missing, has another shape, or belongs to no stem.
    """
    rest = dict(values)
    skipped = [name for name in NOT_WEIGHTS if rest.pop(name, None) is not None]
    stems, net = configuration.stems, configuration.net
    taken = [_take_net(rest, number, net) for number in range(len(stems))]
    skipped += [name for _, dead in taken for name in dead]
    if rest:
        raise UserError(
            f"{len(rest)} variables of the checkpoint belong to no stem, such as {min(rest)}: "
            f"check that its stems are {', '.join(stems)}"
        )
    by_stem = dict(zip(stems, (weights for weights, _ in taken), strict=True))
    groups = [stems] if net.needs_joint else [(stem,) for stem in stems]
    models = []
    for group in groups:
        weights = {
            (f"{stem}_{path}" if len(group) > 1 else path): value
            for stem in group
            for path, value in by_stem[stem].items()
        }
        models.append(ImportedNets(group, weights))
    return models, skipped


def import_models(
    values: Mapping[str, NDArray[Any]],
    configuration: Configuration,
    *,
    provenance: Mapping[str, Any],
) -> "list[Model]":
    """The nets of `import_nets` as models with Keras nets, which can be trained further.

    Args:
        values: variables by name.
        configuration: of the checkpoint.
        provenance: for the models' cards; names of variables left out on purpose are added.

    Raises:
        UserError: see import_nets.
    """
    found, skipped = import_nets(values, configuration)
    from stemforge.train.model import Model, set_weights

    models = []
    for nets in found:
        keras_model = configuration.net.build(nets.stems)
        set_weights(keras_model, nets.weights)
        models.append(
            Model(
                stems=nets.stems,
                net=configuration.net,
                frame_length_samples=configuration.frame_length_samples,
                frame_step_samples=configuration.frame_step_samples,
                sample_rate_hz=SAMPLE_RATE_HZ,
                provenance={**provenance, "not_imported": skipped},
                keras_model=keras_model,
            )
        )
    return models


def _take_net(
    rest: dict[str, NDArray[Any]], number: int, net: UNet
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Takes one stem's variables out of `rest`: our weights, and names of unused variables."""
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
    for path, shape in folding.shapes(net).items():
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
