"""Converts Spleeter's JSON configurations into our nets and parameters."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.train.config import LossName, OptimizerName
from stemforge.train.model_files import JOINT
from stemforge.train.nets.unet import Activation, Head, UNet

DEPTH = 6
FILTERS = [16, 32, 64, 128, 256, 512]
ACTIVATIONS: dict[str, Activation] = {"ELU": "elu", "ReLU": "relu", "LeakyReLU": "leaky_relu"}
HEADS: dict[str, Head] = {"unet.unet": "sigmoid", "unet.softmax_unet": "softmax"}
LOSSES: dict[str, LossName] = {"L1_mask": "l1", "weighted_L1_mask": "weighted_l1"}
OPTIMIZERS: dict[str, OptimizerName] = {"Adam": "adam", "Adadelta": "adadelta", "SGD": "sgd"}
# The optimisation of Spleeter's own configurations (4stems and musdb), except the number of steps.
PRESET: dict[str, Any] = {
    "sampling": "songs",
    "batch_size": 4,
    "stem_weights": None,
    "weight_decay": None,
    "clip_norm": None,
    "ema_momentum": None,
    "precision": "float32",
    "schedule": "constant",
    "warmup_steps": 0,
    "cosine_end": None,
    "plateau_factor": None,
    "patience": None,
    "max_plateaus": None,
}
# Spleeter ignores a configuration's rate for Adadelta, and uses TensorFlow 1's default.
RATES: dict[str, float] = {"adam": 1e-4, "sgd": 1e-4, "adadelta": 1e-3}
# The stems of the official configurations, which the import knows by name.
OFFICIAL_STEMS = {
    "2stems": ("vocals", "accompaniment"),
    "4stems": ("vocals", "drums", "bass", "other"),
    "5stems": ("vocals", "piano", "drums", "bass", "other"),
}
# Keys for Spleeter's folders and cache, and why they have no effect here.
WITHOUT_EFFECT = {
    "model_dir": "models go to models/",
    "training_cache": "features go to data/features/",
    "validation_cache": "features go to data/features/",
    "n_chunks_per_song": "windows are drawn from whole songs",
    "chunk_duration": "windows are drawn from whole songs",
    "throttle_secs": "validation depends on steps: every save_checkpoints_steps",
}
FIXED = {
    "mix_name": "mix",
    "sample_rate": SAMPLE_RATE_HZ,
    "n_channels": 2,
    "separation_exponent": 2,
    "mask_extension": "zeros",
}


@dataclass(frozen=True)
class Configuration:
    """What is needed to read a checkpoint, but is not in it.

    Attributes:
        stems: in the order of the checkpoint.
        net: kind and shape of each stem's net.
        frame_length_samples: of the STFT.
        frame_step_samples: of the STFT.
    """

    stems: tuple[str, ...]
    net: UNet
    frame_length_samples: int = 4096
    frame_step_samples: int = 1024


def make_net(encoder: Activation, decoder: Activation, head: Head = "sigmoid") -> UNet:
    """A net of the released models' size."""
    return UNet(512, 1024, FILTERS[0], DEPTH, "affine", 0.0, encoder, decoder, head)


def spleeter_preset(optimizer: object) -> dict[str, Any]:
    """What `train.preset: spleeter` sets in the train section; it overrides the section's values.

    Args:
        optimizer: the section's optimizer.

    Returns:
        Values by name. `net` has no head, because Spleeter's models have different ones.

    Raises:
        UserError: Spleeter has no such optimizer.
    """
    if optimizer not in RATES:
        raise UserError(f"optimizer={optimizer}: not supported; supported: {', '.join(RATES)}")
    net = make_net("elu", "elu").fields()
    for name in ("bins", "head"):
        del net[name]
    return {**PRESET, "net": net, "learning_rate": RATES[str(optimizer)]}


def official_configurations() -> dict[str, Configuration]:
    """Deezer's own, by name; the -16kHz variants use 1536 bins instead of 1024."""
    nets = {
        "2stems": make_net("leaky_relu", "relu"),
        "4stems": make_net("elu", "elu"),
        "5stems": make_net("elu", "elu", "softmax"),
    }
    found = {name: Configuration(OFFICIAL_STEMS[name], net) for name, net in nets.items()}
    for name, given in list(found.items()):
        wide = dataclasses.replace(given.net, bins=1536)
        found[f"{name}-16kHz"] = dataclasses.replace(given, net=wide)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Reads a configuration without checking its keys.

    Raises:
        UserError: it is missing or not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object")
    return data


def parse_configuration(data: Mapping[str, Any]) -> Configuration:
    """The nets and the STFT of a configuration; the values of other keys are ignored.

    Raises:
        UserError: a key is missing, or its value is not supported.
    """
    for key in ("sample_rate", "n_channels"):
        if data.get(key) != FIXED[key]:
            raise UserError(f"{key}={data.get(key)}: only {FIXED[key]} is supported")
    try:
        model = dict(data["model"])
        head = _look_up(HEADS, "model.type", model.pop("type"))
        shape = dict(model.pop("params", {}))
        _refuse_rest(model, "model.")
        filters = list(shape.pop("conv_n_filters", FILTERS))
        if filters != [filters[0] * 2**level for level in range(DEPTH)]:
            raise UserError(
                f"conv_n_filters={filters}: not supported; supported: six numbers, each twice "
                "the one before"
            )
        encoder = shape.pop("conv_activation", "LeakyReLU")
        decoder = shape.pop("deconv_activation", "ReLU")
        _refuse_rest(shape, "model.params.")
        net = UNet(
            frames=data["T"],
            bins=data["F"],
            width=filters[0],
            depth=DEPTH,
            norm="affine",
            dropout=0.0,
            encoder_activation=_look_up(ACTIVATIONS, "conv_activation", encoder),
            decoder_activation=_look_up(ACTIVATIONS, "deconv_activation", decoder),
            head=head,
        )
        stems = tuple(data["instrument_list"])
        return Configuration(stems, net, data["frame_length"], data["frame_step"])
    except KeyError as error:
        raise UserError(f"no key {error}") from None


def training_parameters(data: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Our parameters for a configuration.

    Args:
        data: the configuration.

    Returns:
        Values by section and name of params.yaml, and a remark for each key that has no effect
        here.

    Raises:
        UserError: a key is missing, or a key or value is not supported.
    """
    rest = dict(data)
    configuration = parse_configuration(rest)
    remarks = [
        f"{key}={rest.pop(key)}: {why}" for key, why in WITHOUT_EFFECT.items() if key in rest
    ]
    for key, value in FIXED.items():
        if rest.get(key, value) != value:
            raise UserError(f"{key}={rest[key]}: only {value} is supported")
        rest.pop(key, None)
    for key in ("model", "instrument_list", "frame_length", "frame_step", "T", "F"):
        del rest[key]
    try:
        optimizer = _look_up(OPTIMIZERS, "optimizer", rest.pop("optimizer", "Adam"))
        rate = float(rest.pop("learning_rate"))
        every = rest.pop("save_checkpoints_steps")
        corpus = {
            "train_csv": rest.pop("train_csv"),
            "validation_csv": rest.pop("validation_csv"),
            "stems": list(configuration.stems),
        }
        net = configuration.net.fields()
        features = {
            "frame_length_samples": configuration.frame_length_samples,
            "frame_step_samples": configuration.frame_step_samples,
            "bins": net.pop("bins"),
        }
        train = {
            "net": net,
            "models": [JOINT] if configuration.net.needs_joint else list(configuration.stems),
            "sampling": "songs",
            "batch_size": rest.pop("batch_size", 8),
            "steps": rest.pop("train_max_steps"),
            "loss": _look_up(LOSSES, "loss_type", rest.pop("loss_type", "L1_mask")),
            "optimizer": optimizer,
            "learning_rate": RATES["adadelta"] if optimizer == "adadelta" else rate,
            "seed": rest.pop("random_seed"),
            "log_every_steps": rest.pop("save_summary_steps"),
            "validate_every_steps": every,
            "checkpoint_every_steps": every,
        }
    except KeyError as error:
        raise UserError(f"no key {error}") from None
    _refuse_rest(rest, "")
    return {"corpus": corpus, "features": features, "train": train}, remarks


def _look_up(table: Mapping[str, Any], key: str, value: Any) -> Any:
    if value not in table:
        raise UserError(f"{key}={value}: not supported; supported: {', '.join(table)}")
    return table[value]


def _refuse_rest(rest: Mapping[str, Any], prefix: str) -> None:
    for key, value in rest.items():
        raise UserError(f"{prefix}{key}={value}: not supported")
