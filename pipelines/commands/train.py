"""`stemforge train`: trains one model of params.yaml, on one or several devices or machines."""

import argparse
from typing import Any

from stemforge.features.corpus.sources import JOINT
from stemforge.pipelines.paths import FEATURES
from stemforge.train.config import STRATEGIES, STRATEGY


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "train",
        help="train one model as set in params.yaml",
        description="Trains one model as set in params.yaml, or resumes a stopped run. Run it in "
        "the folder of params.yaml. `dvc repro` does the same for all models.",
    )
    parser.add_argument(
        "--stem", required=True, help=f"one of models: a stem, or {JOINT} for all stems"
    )
    parser.add_argument(
        "--features",
        metavar="FOLDER",
        help="features folder, local or a URL such as gs://bucket/features (default: what stage "
        f"features made, in STEMFORGE_FEATURES or {FEATURES})",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="mirrored: all GPUs of this machine share each batch, or as many logical CPUs as "
        "STEMFORGE_LOGICAL_CPUS says; multi_worker: the machines in TF_CONFIG share each batch "
        f"(default: the variable {STRATEGY}, else one device)",
    )
    parser.set_defaults(run=train, extra="train")


def train(arguments: argparse.Namespace) -> None:
    """`stemforge train`."""
    from stemforge.pipelines.running.launch import launch_training

    launch_training(arguments.stem, features=arguments.features, strategy=arguments.strategy)
