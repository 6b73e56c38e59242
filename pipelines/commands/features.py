"""`stemforge features`: the feature job of params.yaml, on this machine or on a cluster."""

import argparse
from typing import Any

from stemforge.pipelines.paths import FEATURES


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "features",
        help="compute features as params.yaml says, here or on Flink or Dataflow",
        description="Computes the features that params.yaml describes. Run it where params.yaml "
        "is. All other flags go to Beam, such as --runner=DataflowRunner.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--corpus",
        metavar="ROOT",
        help="decode this corpus (a folder or gs://... URL) inside the job instead of "
        "reading what stage decode wrote",
    )
    parser.add_argument(
        "--audio",
        metavar="ROOT",
        help="a copy of the manifest's audio, a folder or URL",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="features folder to write, local or a URL (default: STEMFORGE_FEATURES, whose "
        f"info.json is then copied to {FEATURES}, or {FEATURES} itself)",
    )
    parser.set_defaults(run=compute, extra="features", takes_flags=True)


def compute(arguments: argparse.Namespace) -> None:
    """`stemforge features`."""
    from stemforge.pipelines.running.feature_job import compute_features

    compute_features(
        corpus=arguments.corpus,
        audio=arguments.audio,
        output=arguments.output,
        beam_flags=arguments.flags,
    )
