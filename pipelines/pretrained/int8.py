"""Models' files with their inner layers in int8, each where there is one."""

import json
from pathlib import Path

from stemforge.errors import UserError
from stemforge.eval.exports.bounds import PARITY
from stemforge.eval.separation.separator import find_models
from stemforge.train.model_files import tflite_name


def find_int8(place: Path, *, most_loss_db: float | None = None) -> list[Path]:
    """A folder's *-int8-mixed.tflite files, and *-float32.tflite for models without one.

    `stemforge export` leaves a file out that loses too much; its stem must not be lacking then.

    Args:
        place: a folder, as `find_models` takes it.
        most_loss_db: of SDR: a file that lost more where its parity.json has measured it stays in
            float32; None: none does.

    Raises:
        UserError: there is no int8-mixed file.
    """
    mixed = find_models(place, runtime="litert", tflite="int8_mixed")
    try:
        plain = find_models(place, runtime="litert")
    except UserError:  # a folder of such files alone
        return mixed
    changes_db = _measured(place) if most_loss_db is not None else {}
    found = []
    for path in plain:
        model = path.name.removesuffix(tflite_name("", "float32"))
        small = path.with_name(tflite_name(model, "int8_mixed"))
        lost = most_loss_db is not None and changes_db.get(small.name, 0.0) < -most_loss_db
        found.append(small if small in mixed and not lost else path)
    return found


def _measured(place: Path) -> dict[str, float]:
    """What an export's files changed in SDR, dB, by name: their worst stem's."""
    parity = place / PARITY
    if not parity.is_file():
        return {}
    try:
        files = json.loads(parity.read_text(encoding="utf-8"))
        return {
            name.rpartition("/")[2]: min(stem["sdr_change_db"] for stem in stems.values())
            for name, stems in files.items()
            if name.endswith(".tflite") and all("sdr_change_db" in s for s in stems.values())
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{parity}: not what `stemforge export` writes: {error}") from None
