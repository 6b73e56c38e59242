"""Writing the models of an official checkpoint: what `stemforge import-spleeter` does."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from features.errors import UserError
from pipelines.work import file_sha256
from train import spleeter, unet
from train.spleeter import Configuration


def import_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    configuration: str | None,
    stems: Sequence[str] | None,
    activation: str | None,
) -> list[unet.StemModel]:
    """Writes `output`/<stem> for each stem of a checkpoint, all of them or none.

    Args:
        checkpoint: folder with a TensorFlow 1 checkpoint.
        output: folder for the models.
        configuration: an official model's name, or a file with Spleeter's JSON.
        stems: of a model with neither, with `activation`.
        activation: "elu", or "leaky_relu" with relu in the decoder.

    Raises:
        UserError: the checkpoint is unreadable or does not fit, or a stem is there already.
    """
    values = spleeter.read_checkpoint(checkpoint)
    official = spleeter.official_configurations()
    if stems is not None:
        chosen = (
            Configuration(tuple(stems), "elu", "elu")
            if activation == "elu"
            else Configuration(tuple(stems), "leaky_relu", "relu")
        )
    elif configuration is None:
        chosen = spleeter.infer_configuration(values)
    elif configuration in official:
        chosen = official[configuration]
    else:
        chosen = spleeter.read_configuration(Path(configuration))
    for stem in chosen.stems:
        if chosen.stems.count(stem) > 1 or Path(stem).name != stem:
            raise UserError(f"stem {stem!r}: each needs a name of its own that can name a folder")
    taken = [stem for stem in chosen.stems if (output / stem).exists()]
    if taken:
        raise UserError(f"{output / taken[0]}: already there: choose another --output")
    files = sorted(path for path in checkpoint.glob("*") if ".data-" in path.name)
    provenance = {
        "imported_from": "Spleeter checkpoint",
        "sha256": {path.name: file_sha256(path) for path in files},
    }
    models = spleeter.import_models(values, chosen, provenance=provenance)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".import-") as scratch:
        for model in models:
            (Path(scratch) / model.stem).mkdir()
            unet.save_model(Path(scratch) / model.stem, model)
        for model in models:
            (Path(scratch) / model.stem).rename(output / model.stem)
    return models
