"""The page's folder: static files that any web server can send."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from stemforge.errors import UserError
from stemforge.eval.runtimes.litert import has_signature, read_interface
from stemforge.eval.separation.separator import common_interface
from stemforge.eval.web.halves import halve_weights

ASSETS = Path(__file__).with_name("assets")
LITERT = "litert"  # the folder of LiteRT.js in the page's
# What a server has to send with the page for several threads
# (https://developer.mozilla.org/en-US/docs/Web/API/Window/crossOriginIsolated).
ISOLATING = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
HEADERS = "_headers"  # where some static hosts read what they have to send


def write_page(output: Path, models: Sequence[Path], litert: Path) -> None:
    """Writes the page.

    Args:
        output: an existing, empty folder.
        models: .tflite files, with weights in float32, of all stems.
        litert: folder of LiteRT.js, with core/dist/ and core/wasm/ in it.

    Raises:
        UserError: a file is not one of stemforge, the models differ, or their STFT is not
            supported.
    """
    interfaces = [read_interface(path) for path in models]
    together = common_interface(interfaces)
    length = together.frame_length_samples
    if length & (length - 1):
        raise UserError(
            f"{models[0]}: frame_length_samples={length}: the page's FFT takes powers of two: use "
            "models of such an STFT"
        )
    for path in ASSETS.iterdir():
        shutil.copyfile(path, output / path.name)
    shutil.copytree(litert, output / LITERT)
    (output / "models").mkdir()
    listed = []
    for number, (path, interface) in enumerate(zip(models, interfaces, strict=True)):
        name = f"models/{number}-{interface.name}.tflite16"
        data, weights = halve_weights(path.read_bytes())
        if not weights or not has_signature(path):
            raise UserError(
                f"{path}: not the nets alone in float32: give *-float32.tflite files, such as "
                "`stemforge export` writes"
            )
        (output / name).write_bytes(data)
        listed.append({"file": name, "stems": interface.stems, "weights": weights})
    values = {"models": listed, "interface": dataclasses.asdict(together)}
    text = json.dumps(values, indent=1, ensure_ascii=False)
    (output / "models.js").write_text(f"const MODELS = {text};\n", encoding="utf-8")
    lines = ["/*", *(f"  {name}: {value}" for name, value in ISOLATING.items())]
    (output / HEADERS).write_text("\n".join(lines) + "\n", encoding="utf-8")
