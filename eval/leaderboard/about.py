"""What a leaderboard's tables do not say of themselves: leaderboard.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stemforge.errors import UserError
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.text import parse_json

ABOUT = "leaderboard.json"


@dataclass(frozen=True)
class About:
    """How a leaderboard was computed.

    Attributes:
        title: heading.
        introduction: first paragraphs.
        statement: which tracks, and how they were averaged.
        notes: what else a reader must know.
        apart: paragraph over what was scored on another test set; empty where nothing was.
        targets: columns, in order.
        aggregation: how scores were averaged.
        window_s: length of a frame.
        hop_s: distance between the starts of two frames.
    """

    title: str
    introduction: tuple[str, ...]
    statement: str
    notes: tuple[str, ...]
    apart: str
    targets: tuple[str, ...]
    aggregation: Aggregation
    window_s: float
    hop_s: float

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_about(text: bytes, *, place: str) -> About:
    """Reads leaderboard.json.

    Raises:
        UserError: it is damaged, or of another version of stemforge.
    """
    try:
        fields: Mapping[str, Any] = parse_json(text)
        lists = {name: tuple(fields[name]) for name in ("introduction", "notes", "targets")}
        aggregation = Aggregation(**fields["aggregation"])
        return About(**{**fields, **lists, "aggregation": aggregation})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{place}: damaged, or written by another version: score again") from None
