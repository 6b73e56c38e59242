"""Stage train@<stem>: data/features -> models/<stem>/ (weights, model.json, history, metrics).

With train.head=softmax the one stage is train@joint, of all stems.
"""

import argparse
import os

from stemforge import tensorflow
from stemforge.features.errors import needs
from stemforge.features.models import JOINT
from stemforge.pipelines.console import count_of, run_main
from stemforge.pipelines.heartbeat import heart
from stemforge.pipelines.paths import FEATURES
from stemforge.train.config import STRATEGIES, STRATEGY, TF_CONFIG

LOGICAL_CPUS = "STEMFORGE_LOGICAL_CPUS"


def main() -> None:
    """Trains one model, or resumes where a killed or finished run left off."""
    arguments = build_parser().parse_args()
    heart.start()
    with needs("train", what="training"):
        # A strategy of several workers has to do TensorFlow's first operation itself.
        tensorflow.start(
            logical_cpus=count_of(LOGICAL_CPUS), find_devices=TF_CONFIG not in os.environ
        )
        from stemforge.pipelines import training
    training.run(arguments.stem, arguments.features, strategy=arguments.strategy)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stemforge.pipelines.train_stem")
    parser.add_argument(
        "--stem", required=True, help=f"name in train.models: a stem, or {JOINT} for all of them"
    )
    parser.add_argument(
        "--features",
        default=str(FEATURES),
        metavar="FOLDER",
        help="features folder, local or a URL such as gs://bucket/features (%(default)s)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default=os.environ.get(STRATEGY, "default"),
        help="mirrored: all GPUs of this machine, or the logical CPUs of STEMFORGE_LOGICAL_CPUS, "
        "share each batch; multi_worker: so do the machines that TF_CONFIG names "
        f"(default: {STRATEGY}, else one device)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(run_main(main))
