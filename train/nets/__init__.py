"""The nets: one module or package for each.

- protocol: the interface that all other code uses
- parts: layers that several nets use
- unet: Spleeter's U-Net
- blstm: Spleeter's other net, three LSTM layers
- recurrent_unet: auralflow's U-Nets, with LSTM layers in the middle
- tfc_tdf: a U-Net with dense layers over all bins of a frame

A new net is a module here and a line in NETS: docs/extending.md.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stemforge.errors import UserError
from stemforge.text import brief, show
from stemforge.train.nets.blstm import BLSTM
from stemforge.train.nets.protocol import Net
from stemforge.train.nets.recurrent_unet import UNetLSTM, UNetVAE
from stemforge.train.nets.tfc_tdf import TFCTDF
from stemforge.train.nets.unet import UNet

NETS: dict[str, type[Net]] = {net.kind: net for net in (UNet, BLSTM, UNetLSTM, UNetVAE, TFCTDF)}
FIRST_KIND = UNet.kind  # of model.json before version 3, which named no kind


def read_net(values: Any) -> Net:
    """A net from its kind and fields, as params.yaml and model.json hold them.

    Args:
        values: a mapping; "kind" names the class, the rest are its fields.

    Raises:
        UserError: one line that begins with a field's name: the kind is not in the table, a
            field is unknown, missing or of another type, or fields contradict each other.
    """
    if not isinstance(values, dict) or "kind" not in values:
        raise UserError(f"kind: missing: must be one of {', '.join(sorted(NETS))}")
    kind = values["kind"]
    if not isinstance(kind, str) or kind not in NETS:
        given = brief(kind, 50) if isinstance(kind, str) else show(kind)
        raise UserError(f"kind={given}: must be one of {', '.join(sorted(NETS))}")
    fields = {name: value for name, value in values.items() if name != "kind"}
    if problems := [*_problems(NETS[kind], fields)]:
        raise UserError("; ".join(problems))
    return NETS[kind](**fields)


def _problems(kind: type[Net], fields: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the names and types of fields; no value is converted."""
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        if name not in fields:
            yield f"{name}: missing"
            continue
        value, hint = fields[name], hints[name]
        if get_origin(hint) is Literal:
            if not isinstance(value, str) or value not in get_args(hint):
                yield f"{name}={show(value)}: must be one of {', '.join(map(str, get_args(hint)))}"
            continue
        accepted = (int, float) if hint is float else hint
        if not isinstance(value, accepted) or isinstance(value, bool) != (hint is bool):
            yield f"{name}={show(value)}: must be of type {hint.__name__}"
    for name in fields:
        if name not in names:
            yield f"{brief(name, 50)}: unknown key"
