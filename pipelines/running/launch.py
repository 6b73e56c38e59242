"""Starts a training run: first the heartbeat, then TensorFlow, then the run."""

import os

from stemforge import tensorflow
from stemforge.pipelines.console import count_of
from stemforge.pipelines.running.heartbeat import heart
from stemforge.train.config import STRATEGY, TF_CONFIG

LOGICAL_CPUS = "STEMFORGE_LOGICAL_CPUS"


def launch_training(name: str, *, features: str | None = None, strategy: str | None = None) -> None:
    """Trains one model, or resumes a killed or finished run.

    Args:
        name: one of models.
        features: features folder, local or a URL; None: what stage features made.
        strategy: see strategies.make_cluster; None: STEMFORGE_STRATEGY, else one device.
    """
    heart.start()
    # A multi-worker strategy must run TensorFlow's first operation itself.
    tensorflow.start(logical_cpus=count_of(LOGICAL_CPUS), find_devices=TF_CONFIG not in os.environ)
    from stemforge.pipelines.running import training

    training.run(name, features, strategy=strategy or os.environ.get(STRATEGY) or "default")
