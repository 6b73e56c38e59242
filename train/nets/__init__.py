"""The nets: one module or package for each.

- protocol: the interface that all other code uses
- unet: Spleeter's U-Net

A new net is a module here and a line in NETS: docs/extending.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stemforge.errors import UserError
from stemforge.train.nets.protocol import Net
from stemforge.train.nets.unet import UNet

NETS: dict[str, type[Net]] = {UNet.kind: UNet}
FIRST_KIND = UNet.kind  # of model.json before version 3, which named no kind


def net_class(kind: object) -> type[Net]:
    """The class of a kind of net.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in NETS:
        raise UserError(f"kind={kind}: not supported; supported: {', '.join(sorted(NETS))}")
    return NETS[str(kind)]


def read_net(values: Mapping[str, Any]) -> Net:
    """A net from its fields, as model.json holds them.

    Raises:
        UserError: an unknown kind, an unknown or missing field, or fields that contradict each
            other.
    """
    found = net_class(values.get("kind", FIRST_KIND))
    fields = {name: value for name, value in values.items() if name != "kind"}
    odd = fields.keys() ^ {field.name for field in dataclasses.fields(found)}
    if odd:
        what = "unknown" if min(odd) in fields else "missing"
        raise UserError(f"kind={found.kind}: {min(odd)}: {what}")
    return found(**fields)
