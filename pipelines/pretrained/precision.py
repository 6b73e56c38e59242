"""The number format that nets compute in: which files of a model, and which precision."""

import json
from pathlib import Path
from typing import Literal

from stemforge.errors import UserError
from stemforge.eval.config import Precision, Runtime
from stemforge.eval.exports.bounds import PARITY
from stemforge.eval.separation.separator import find_models
from stemforge.machine import has_bfloat16
from stemforge.pipelines.console import say
from stemforge.train.model_files import find_tflite, tflite_name

MOST_LOSS_DB = 0.1  # of SDR, for auto


def choose(
    place: Path,
    *,
    runtime: Runtime | None,
    precision: Precision | Literal["auto"],
    forced: bool,
    needs_directories: bool,
) -> tuple[list[Path], Precision]:
    """Models and their precision, as options of a command ask for them.

    Args:
        place: of the models, as `find_models` takes it.
        runtime: that was asked for.
        precision: that was asked for; where bfloat16 would only be slower on this CPU, it is
            float32, and a line says so.
        forced: bfloat16 on any CPU.
        needs_directories: something is wanted that .tflite files cannot do.

    Raises:
        UserError: there are no models, `forced` without bfloat16, or a damaged parity.json.
    """
    if forced and precision != "bfloat16":
        raise UserError("--force-precision: is for --precision bfloat16: add that, or leave it out")
    if precision == "auto":
        return _find_fastest(place, runtime=runtime, needs_directories=needs_directories)
    if precision == "bfloat16" and not forced and not has_bfloat16():
        say(
            "--precision bfloat16: this CPU has no instructions for it, so it would take several "
            "times as long: using float32 instead (--force-precision keeps bfloat16)"
        )
        precision = "float32"
    return find_models(place, runtime=runtime), precision


def _find_fastest(
    place: Path, *, runtime: Runtime | None, needs_directories: bool
) -> tuple[list[Path], Precision]:
    """Models and precision that are usually fastest; a line says which."""
    if runtime != "tensorflow" and not needs_directories and _has_int8(place):
        found = find_int8(place, most_loss_db=MOST_LOSS_DB)
        ending = tflite_name("", "float32")
        rest = [path.name.removesuffix(ending) for path in found if path.name.endswith(ending)]
        if len(rest) < len(found):
            but = f", but float32 for {', '.join(rest)}" if rest else ""
            say(f"--precision auto: inner layers in int8{but}, by LiteRT")
            return found, "float32"  # what the other layers compute in
    models = find_models(place, runtime=runtime)
    if models[0].is_dir() and has_bfloat16():
        say("--precision auto: bfloat16, by TensorFlow")
        return models, "bfloat16"
    say("--precision auto: float32")
    return models, "float32"


def _has_int8(place: Path) -> bool:
    if not place.is_dir():  # a file that is named is the one
        return False
    try:
        find_tflite(place, "int8_mixed")
    except UserError:
        return False
    return True


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
