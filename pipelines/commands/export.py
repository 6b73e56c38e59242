"""`stemforge export`: models to files that run elsewhere."""

import argparse
from typing import Any

from stemforge import tensorflow
from stemforge.pipelines.console import say
from stemforge.pipelines.options import add_export_options, local_path
from stemforge.pipelines.running.work import new_folder


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "export",
        help="SavedModel and TFLite files of models",
        description="Writes a SavedModel and TFLite files of the models, golden vectors for ports "
        "to other languages, and parity.json: how far each file is from Keras on real music.",
    )
    parser.add_argument(
        "models",
        nargs="+",
        type=local_path,
        metavar="MODEL_DIR",
        help="model directories of all stems, or folders of them (such as models/)",
    )
    add_export_options(parser)
    parser.set_defaults(run=export_models, extra="export")


def export_models(arguments: argparse.Namespace) -> None:
    """`stemforge export`."""
    from stemforge.train.model_files import find_model_folders, read_card

    folders = list(
        dict.fromkeys(f for place in arguments.models for f in find_model_folders(place))
    )
    for folder in folders:
        read_card(folder)  # before TensorFlow loads, which takes seconds
    tensorflow.start()
    from stemforge.pipelines.running.exporting import export_for_people

    with new_folder(arguments.output) as out:
        export_for_people(
            folders,
            out,
            frames=arguments.frames,
            corpus=arguments.corpus,
            timings=arguments.timings,
        )
    say(f"{arguments.output}: SavedModel, TFLite, vectors/ and parity.json")
