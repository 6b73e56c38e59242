"""Puts models into the app: their .tflite files, and models.json, which lists them.

    python -m mobile.android.assets [MODEL ...] [--tflite KIND]

MODEL is a model's name, a folder of .tflite files, or a release; without one, spleeter:2stems.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from stemforge.errors import UserError
from stemforge.eval.runtimes.litert import has_signature, read_interface
from stemforge.eval.separation.separator import common_interface, find_models
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.pipelines.console import run_main, say
from stemforge.pipelines.pretrained.catalogue import DEFAULT
from stemforge.pipelines.pretrained.places import resolve, title
from stemforge.pipelines.pretrained.precision import find_int8
from stemforge.train.config import TFLiteFormat
from stemforge.unfinished import finishing, remove

ASSETS = Path(__file__).with_name("src") / "main" / "assets"
LIST = "models.json"
# Not float16: TensorFlow Lite 2.21 runs such a file without XNNPACK, five times as slow.
KINDS = tuple(kind for kind in get_args(TFLiteFormat) if kind != "float16")


def main() -> None:
    """Writes the folder of assets."""
    parser = argparse.ArgumentParser(
        prog="python -m mobile.android.assets", description="Puts models into the app."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"(default: {DEFAULT})")
    parser.add_argument("--tflite", choices=KINDS, default="float32", help="the files' format")
    arguments = parser.parse_args()
    with finishing(ASSETS) as folder:
        folder.mkdir()
        write_assets(folder, arguments.models or [DEFAULT], tflite=arguments.tflite)
        size = sum(path.stat().st_size for path in folder.iterdir())
        remove(ASSETS)  # the models of before
    say(f"{ASSETS}: {size / 1e6:.0f} MB: build the app: python -m mobile.android.apk")


def write_assets(folder: Path, models: Sequence[str], *, tflite: TFLiteFormat) -> None:
    """Writes models.json and the files that it lists.

    Args:
        folder: an existing, empty one.
        models: names, folders or addresses, as `stemforge separate --model` takes them.
        tflite: format of the files.

    Raises:
        UserError: there is no such model or file, or the app cannot run it.
    """
    listed = [_add(folder, number, model, tflite) for number, model in enumerate(models)]
    names = [entry["name"] for entry in listed]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{twice}: named twice: give the folders different names")
    text = json.dumps(listed, indent=1, ensure_ascii=False)
    (folder / LIST).write_text(f"{text}\n", encoding="utf-8")


def _add(folder: Path, number: int, model: str, tflite: TFLiteFormat) -> dict[str, Any]:
    """Copies a model's files; returns its entry of models.json."""
    place = resolve(model)
    if tflite == "int8_mixed" and place.is_dir():
        paths = find_int8(place)
    else:
        paths = find_models(place, runtime="litert", tflite=tflite)
    for path in paths:
        if not has_signature(path):
            raise UserError(
                f"{path}: not nets alone: give a folder such as `stemforge export` writes"
            )
    interfaces = [read_interface(path) for path in paths]
    together = common_interface(interfaces)
    length, step = together.frame_length_samples, together.frame_step_samples
    if (
        length & (length - 1)
        or length % step
        or length < 3 * step
        or together.sample_rate_hz != SAMPLE_RATE_HZ
    ):
        raise UserError(
            f"{model}: frame_length_samples={length}, frame_step_samples={step}, "
            f"sample_rate_hz={together.sample_rate_hz}: the app takes a length that is a power of "
            f"two, a step that divides it by 4 or more, and {SAMPLE_RATE_HZ} Hz"
        )
    files = []
    for path, interface in zip(paths, interfaces, strict=True):
        files.append(f"{number}-{interface.name}.tflite")
        shutil.copyfile(path, folder / files[-1])
    return {
        "name": title(model),
        "stems": together.stems,
        "files": files,
        "frames": together.frames,
        "bins": together.bins,
        "frame_length_samples": length,
        "frame_step_samples": step,
    }


if __name__ == "__main__":
    sys.exit(run_main(main))
