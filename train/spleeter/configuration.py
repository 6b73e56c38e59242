"""Converts Spleeter's JSON configurations into our nets and parameters."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.features.corpus.sources import JOINT, check_stem_names
from stemforge.features.signal.framing import Framing
from stemforge.text import brief, parse_json, show
from stemforge.train.config import LossName, OptimizerName
from stemforge.train.model_files import Interface
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
    "input": "features",
    "augmentation": None,
    "loss": {"l1": 1.0},
    "batch_size": 4,
    "accumulate_steps": 1,
    "stem_weights": None,
    "learning_rates": None,
    "weight_decay": None,
    "clip_norm": None,
    "ema_momentum": None,
    "precision": "float32",
    "schedule": "constant",
    "warmup_steps": 0,
    "cosine_end": None,
    "plateau_factor": None,
    "patience": None,
    "min_improvement": 0.0,
    "max_plateaus": None,
    "select_by": "valid_loss",
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
# All keys that a configuration may have.
KNOWN = frozenset({
    *WITHOUT_EFFECT, *FIXED,
    *("model", "instrument_list", "frame_length", "frame_step", "T", "F"),
    *("optimizer", "learning_rate", "save_checkpoints_steps", "train_csv", "validation_csv"),
    *("batch_size", "train_max_steps", "loss_type", "random_seed", "save_summary_steps"),
})  # fmt: skip


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

    def interface(self, stems: Sequence[str]) -> Interface:
        """Inputs and outputs of the nets of one model.

        Args:
            stems: one, or all that share a softmax.
        """
        return Interface(
            stems=tuple(stems),
            frames=self.net.frames,
            bins=self.net.bins,
            frame_length_samples=self.frame_length_samples,
            frame_step_samples=self.frame_step_samples,
            sample_rate_hz=SAMPLE_RATE_HZ,
        )


def make_net(encoder: Activation, decoder: Activation, head: Head = "sigmoid") -> UNet:
    """A net of the released models' size."""
    return UNet(512, 1024, FILTERS[0], DEPTH, "affine", 0.0, encoder, decoder, head, "linear")


def spleeter_preset(optimizer: object) -> dict[str, Any]:
    """What `train.preset: spleeter` sets where the train section has null or no such key.

    Args:
        optimizer: the section's optimizer.

    Returns:
        Values by name. Spleeter's models have different heads and losses: these are those of its
        4stems and musdb configurations.

    Raises:
        UserError: Spleeter has no such optimizer.
    """
    if not isinstance(optimizer, str) or optimizer not in RATES:
        raise UserError(
            f"optimizer={show(optimizer)}: not supported; supported: {', '.join(RATES)}"
        )
    net = make_net("elu", "elu").fields()
    del net["bins"]  # features.bins
    return {**PRESET, "net": net, "learning_rate": RATES[optimizer]}


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
        data = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a JSON object")
    return data


def parse_configuration(data: Mapping[str, Any]) -> Configuration:
    """The nets and the STFT of a configuration; the values of other keys are ignored.

    Raises:
        UserError: a key is missing, or its value is not supported.
    """
    for key in ("sample_rate", "n_channels"):
        _check_fixed(key, data.get(key))
    model = dict(_take(data, "model", dict))
    head = _look_up(HEADS, "model.type", _take(model, "type", str))
    shape = dict(_take(model, "params", dict, {}))
    _refuse_rest({k: v for k, v in model.items() if k not in ("type", "params")}, "model.")
    filters = shape.pop("conv_n_filters", FILTERS)
    if not _is_doubling(filters):
        raise UserError(
            f"conv_n_filters={show(filters)}: not supported; supported: six numbers, each twice "
            "the one before"
        )
    encoder = shape.pop("conv_activation", "LeakyReLU")
    decoder = shape.pop("deconv_activation", "ReLU")
    _refuse_rest(shape, "model.params.")
    net = UNet(
        frames=_take(data, "T", int),
        bins=_take(data, "F", int),
        width=filters[0],
        depth=DEPTH,
        norm="affine",
        dropout=0.0,
        encoder_activation=_look_up(ACTIVATIONS, "conv_activation", encoder),
        decoder_activation=_look_up(ACTIVATIONS, "deconv_activation", decoder),
        head=head,
        input_scale="linear",
    )
    stems = _take(data, "instrument_list", list)
    try:
        check_stem_names(stems)
    except UserError as error:
        raise UserError(f"instrument_list: {error}") from None
    framing = Framing(_take(data, "frame_length", int), _take(data, "frame_step", int))
    framing.check(net.bins)
    return Configuration(tuple(stems), net, framing.length_samples, framing.step_samples)


def training_parameters(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our parameters for a configuration.

    Args:
        data: the configuration.

    Returns:
        Values of params.yaml by section and name, and a remark for each key that has no effect
        here.

    Raises:
        UserError: a key is missing, or a key or value is not supported.
    """
    configuration = parse_configuration(data)
    remarks = [
        f"{key}={show(data[key])}: {why}" for key, why in WITHOUT_EFFECT.items() if key in data
    ]
    for key, value in FIXED.items():
        _check_fixed(key, data.get(key, value))
    _refuse_rest({key: value for key, value in data.items() if key not in KNOWN}, "")
    optimizer = _look_up(OPTIMIZERS, "optimizer", data.get("optimizer", "Adam"))
    rate = float(_take(data, "learning_rate", float))
    every = _take(data, "save_checkpoints_steps", int)
    net = configuration.net.fields()
    corpus = {
        "train_csv": _take(data, "train_csv", str),
        "validation_csv": _take(data, "validation_csv", str),
        "stems": list(configuration.stems),
    }
    features = {
        "frame_length_samples": configuration.frame_length_samples,
        "frame_step_samples": configuration.frame_step_samples,
        "bins": net.pop("bins"),
    }
    train = {
        "net": net,
        "sampling": "songs",
        "batch_size": _take(data, "batch_size", int, 8),
        "steps": _take(data, "train_max_steps", int),
        "loss": _look_up(LOSSES, "loss_type", data.get("loss_type", "L1_mask")),
        "optimizer": optimizer,
        "learning_rate": RATES["adadelta"] if optimizer == "adadelta" else rate,
        "seed": _take(data, "random_seed", int),
        "log_every_steps": _take(data, "save_summary_steps", int),
        "validate_every_steps": every,
    }
    sections = {
        "corpus": corpus,
        "features": features,
        "models": [JOINT] if configuration.net.needs_joint else list(configuration.stems),
        "train": train,
        "monitor": {"checkpoint_every_steps": every},
    }
    return sections, remarks


def _take(data: Mapping[str, Any], key: str, kind: type, default: object = None) -> Any:
    """The value of a key, of one type; a whole number counts as a float.

    Raises:
        UserError: it is missing and has no default, or of another type.
    """
    if key not in data and default is None:
        raise UserError(f"no key {key!r}")
    value = data.get(key, default)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) or value in (math.inf, -math.inf):
        words = {int: "a whole number", float: "a number", str: "a text", list: "a list"}
        raise UserError(f"{key}={show(value)}: must be {words.get(kind, 'an object')}")
    return value


def _is_doubling(filters: object) -> bool:
    if not isinstance(filters, list) or not filters or type(filters[0]) is not int:
        return False
    return filters == [filters[0] * 2**level for level in range(DEPTH)]


def _check_fixed(key: str, value: object) -> None:
    if value != FIXED[key]:
        raise UserError(f"{key}={show(value)}: only {FIXED[key]} is supported")


def _look_up(table: Mapping[str, Any], key: str, value: Any) -> Any:
    if not isinstance(value, str) or value not in table:
        given = brief(value, 50) if isinstance(value, str) else show(value)
        raise UserError(f"{key}={given}: not supported; supported: {', '.join(table)}")
    return table[value]


def _refuse_rest(rest: Mapping[str, Any], prefix: str) -> None:
    for key, value in rest.items():
        raise UserError(f"{prefix}{brief(key, 50)}={show(value)}: not supported")
