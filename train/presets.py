"""Named values of the train section, for the keys that params.yaml leaves to a preset."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from stemforge.errors import UserError
from stemforge.text import show
from stemforge.train.nets import NETS
from stemforge.train.nets.protocol import Net
from stemforge.train.nets.unet import UNet
from stemforge.train.spleeter.configuration import PRESET, spleeter_preset

PresetName = Literal["starter", "spleeter", "stemforge"]
# A small net that learns within hundreds of steps.
STARTER: dict[str, Any] = {
    "net": {
        "kind": "unet",
        "frames": 128,
        "width": 8,
        "depth": 6,
        "norm": "batch",
        "dropout": 0.0,
        "encoder_activation": "elu",
        "decoder_activation": "elu",
        "head": "sigmoid",
        "input_scale": "linear",
    },
    "sampling": "windows",
    "input": "features",
    "augmentation": None,
    "loss": {"l1": 1.0},
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup_steps": 0,
    "cosine_end": None,
}
# Row "all together" of docs/study.md, among its best.
STEMFORGE: dict[str, Any] = {
    "net": {
        "kind": "tfc_tdf",
        "frames": 256,
        "fold": 2,
        "width": 24,
        "growth": 24,
        "depth": 3,
        "bottleneck": 4,
        "input_scale": "log",
    },
    "sampling": "windows",
    "input": "waveforms",
    "augmentation": {
        "gain_db": [-6.0, 6.0],
        "swap_channels": 0.5,
        "flip_polarity": 0.5,
        "remix": 0.5,
    },
    "loss": {"l1": 1.0, "si_sdr": 0.1},
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "warmup_steps": 30,
    "cosine_end": 0.01,
}
KINDS = {  # of the presets' nets
    "starter": STARTER["net"]["kind"],
    "spleeter": UNet.kind,
    "stemforge": STEMFORGE["net"]["kind"],
}
# null is the preset's value, so what a preset has on needs another word to be off.
OFF = "none"
CAN_BE_OFF = frozenset(key for key, value in PRESET.items() if value is None)


def preset_values(name: PresetName, *, optimizer: object) -> dict[str, Any]:
    """A preset's values by key; `net` holds kind and fields of its net, without bins.

    Args:
        name: of the preset.
        optimizer: the section's own, which Spleeter's learning rate depends on.

    Raises:
        UserError: Spleeter has no such optimizer.
    """
    if name == "spleeter":
        return spleeter_preset(optimizer)
    return STARTER if name == "starter" else STEMFORGE


def fill_in(section: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """The section with the preset's values for keys that are missing or None.

    Keys that are "none" and can be off become None. Of a net that is there, kind and fields are
    filled in; fields that only other kinds of nets have may be there with None, and are left out.

    Args:
        section: as params.yaml has it.
        preset: values by key; empty: there is no preset.

    Raises:
        UserError: one line that begins with "net.": the kind of net has no such field, or is not
            the preset's and leaves fields open.
    """
    values = {k: v for k, v in preset.items() if k != "net" and section.get(k) is None}
    off = dict.fromkeys(key for key in CAN_BE_OFF if section.get(key) == OFF)
    filled = {**section, **values, **off}
    if isinstance(section.get("net"), Mapping):
        filled["net"] = _fill_in_net(section["net"], preset.get("net", {}))
    return filled


def _fill_in_net(net: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in net.items() if value is not None}
    kind = given.get("kind", theirs.get("kind"))
    if not isinstance(kind, str) or kind not in NETS:
        return dict(net)  # its reader names what is wrong
    fields = {name: {field.name for field in dataclasses.fields(NETS[name])} for name in NETS}
    for name, value in given.items():
        having = sorted(other for other in fields if name in fields[other])
        if having and kind not in having:
            whose = "" if "kind" in given else " of the preset"
            raise UserError(
                f"net.{name}={show(value)}: the net{whose} is of kind {kind}, which has no such "
                f"field: set it to null, or net.kind={' or '.join(having)}"
            )
    elsewhere = set().union(*fields.values()) - fields[kind]
    own = {name: value for name, value in net.items() if name not in elsewhere}
    if kind == theirs.get("kind"):
        return {**own, **{name: value for name, value in theirs.items() if name not in given}}
    if theirs and (missing := sorted(fields[kind] - given.keys() - {"bins"})):
        others = [f"preset={name}, or " for name in KINDS if KINDS[name] == kind]
        raise UserError(
            f"net.kind={kind}: the preset has values for net.kind={theirs['kind']} only: set "
            f"{''.join(others)}{', '.join(missing)} too: docs/training.md, Which net"
        )
    return own


def describe_preset(section: Mapping[str, Any], net: Net) -> list[str]:
    """What a preset has set, and what the section sets instead, in a line each.

    Args:
        section: filled in; without a preset there is nothing to say.
        net: the section's net.
    """
    name: PresetName | None = section["preset"]
    if name is None:
        return []
    preset = preset_values(name, optimizer=section["optimizer"])
    values = [f"{key}={section[key]}" for key in preset if key != "net"]
    lines = [f"preset {name}: {', '.join([net.describe(), *values])}"]
    ours, theirs = _flat(section), _flat(preset)
    if ours["net.kind"] != theirs["net.kind"]:
        theirs = {key: value for key, value in theirs.items() if key in ("net.kind", *preset)}
    own = [f"{key}={ours[key]}, not {v}" for key, v in theirs.items() if ours[key] != v]
    return [*lines, f"params.yaml differs from preset {name}: {'; '.join(own)}"] if own else lines


def _flat(section: Mapping[str, Any]) -> dict[str, Any]:
    net = {f"net.{key}": value for key, value in section["net"].items()}
    return {**net, **{key: value for key, value in section.items() if key != "net"}}
