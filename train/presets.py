"""Named values of the train section, for the keys that params.yaml leaves to a preset."""

from collections.abc import Mapping
from typing import Any, Literal

from stemforge.train.nets.protocol import Net
from stemforge.train.spleeter.configuration import spleeter_preset

PresetName = Literal["starter", "spleeter"]
# A small net that learns within hundreds of steps.
STARTER: dict[str, Any] = {
    "net": {"kind": "unet", "frames": 128, "width": 8, "norm": "batch"},
    "sampling": "windows",
    "learning_rate": 1e-3,
}


def preset_values(name: PresetName, *, optimizer: object) -> dict[str, Any]:
    """A preset's values by key; `net` holds those of a net of its kind.

    Args:
        name: of the preset.
        optimizer: the section's own, which Spleeter's learning rate depends on.

    Raises:
        UserError: Spleeter has no such optimizer.
    """
    return STARTER if name == "starter" else spleeter_preset(optimizer)


def fill_in(section: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """The section with the preset's values for keys that are missing or None.

    Fields of a net that is there are filled in too, if it is of the preset's kind.
    """
    net, presets_net = section.get("net"), preset["net"]
    values = {k: v for k, v in preset.items() if k != "net" and section.get(k) is None}
    filled = {**section, **values}
    if isinstance(net, Mapping) and net.get("kind") == presets_net["kind"]:
        filled["net"] = {**net, **{k: v for k, v in presets_net.items() if net.get(k) is None}}
    return filled


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
