"""Writing the models of an official checkpoint: what `stemforge import-spleeter` does."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import check_stem_names
from stemforge.train.model import Model, save_model
from stemforge.train.spleeter import checkpoints as spleeter
from stemforge.train.spleeter.configuration import (
    Configuration,
    make_net,
    official_configurations,
    parse_configuration,
    read_json,
)


def import_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    configuration: str | None,
    stems: Sequence[str] | None,
    activation: str | None,
) -> list[Model]:
    """Writes `output`/<stem>, or `output`/joint where stems share a softmax: all or none.

    Args:
        checkpoint: folder with a TensorFlow 1 checkpoint.
        output: folder for the models.
        configuration: an official model's name, or a file with Spleeter's JSON.
        stems: of a model that has neither; needs `activation`.
        activation: "elu", or "leaky_relu" with relu in the decoder.

    Raises:
        UserError: the checkpoint is unreadable or does not fit, or a stem is there already.
    """
    if stems is not None:
        try:
            check_stem_names(stems)
        except UserError as error:
            raise UserError(f"--stems {error}") from None
    values = spleeter.read_checkpoint(checkpoint)
    official = official_configurations()
    if stems is not None:
        elu = activation == "elu"
        net = make_net("elu", "elu") if elu else make_net("leaky_relu", "relu")
        chosen = Configuration(tuple(stems), net)
    elif configuration is None:
        chosen = spleeter.infer_configuration(values)
    elif configuration in official:
        chosen = official[configuration]
    else:
        given = read_json(Path(configuration))
        try:
            chosen = parse_configuration(given)
        except UserError as error:
            raise UserError(f"{configuration}: {error}") from None
    files = storage.visible(checkpoint.glob("*.data-*"), checkpoint)
    provenance = {
        "imported_from": "Spleeter checkpoint",
        "sha256": {path.name: storage.file_sha256(path) for path in files},
    }
    models = spleeter.import_models(values, chosen, provenance=provenance)
    taken = [model.name for model in models if (output / model.name).exists()]
    if taken:
        raise UserError(f"{output / taken[0]}: already exists: choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".import-") as scratch:
        for model in models:
            (Path(scratch) / model.name).mkdir()
            save_model(Path(scratch) / model.name, model)
        for model in models:
            (Path(scratch) / model.name).rename(output / model.name)
    return models
