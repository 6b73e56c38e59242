"""Model directories: finding them and reading model.json, without loading a net."""

import json
import os
from pathlib import Path
from typing import Any

from features.errors import UserError

MODEL_VERSION = 2


def read_card(folder: Path) -> dict[str, Any]:
    """Reads model.json.

    Raises:
        UserError: it is missing, not JSON, or of another version.
    """
    path = folder / "model.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no model.json in it: not a model directory") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if card.get("version") != MODEL_VERSION:
        raise UserError(
            f"{path}: model version {card.get('version')} is not {MODEL_VERSION}: train or "
            "import it again"
        )
    return card


def find_models(folder: Path) -> list[Path]:
    """Model directories: the folder itself, or those directly in it, sorted by name.

    Raises:
        UserError: there is none.
    """
    if (folder / "model.json").is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(path.parent for path in folder.glob(f"*{os.sep}model.json"))
    if not found:
        raise UserError(f"{folder}: no model directory (with a model.json) in it")
    return found
