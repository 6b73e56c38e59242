"""TensorFlow's distribution strategies by name; they change no result, so not in params.yaml."""

import json
import os
from typing import Any

import tensorflow as tf

from stemforge.errors import UserError
from stemforge.pipelines.console import say
from stemforge.quiet import quiet_stderr
from stemforge.train.cluster import Cluster
from stemforge.train.config import STRATEGIES, STRATEGY, TF_CONFIG


def make_cluster(name: str) -> Cluster:
    """The devices that a strategy trains on.

    Args:
        name: "default": one; "mirrored": all GPUs of this machine, or the logical CPUs of
            STEMFORGE_LOGICAL_CPUS; "multi_worker": those of all machines in TF_CONFIG, GPUs or
            a CPU each. It waits for them.

    Raises:
        UserError: no such strategy (argparse does not check what the environment says), or
            TF_CONFIG is missing or wrong.
    """
    if name not in STRATEGIES:
        raise UserError(f"{STRATEGY}={name}: not supported; supported: {', '.join(STRATEGIES)}")
    if name == "multi_worker":
        return _all_workers()
    if name == "default":
        return Cluster()
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    say(f"train: {len(devices)} replicas: {', '.join(devices)}")
    # On GPUs it uses NCCL by itself.
    return Cluster(tf.distribute.MirroredStrategy(devices))


def _all_workers() -> Cluster:
    addresses, own = read_tf_config(os.environ.get(TF_CONFIG, ""))
    say(f"train: {own} of {len(addresses)} workers: waiting for {', '.join(addresses)}")
    # Listing logical devices would start TensorFlow's runtime, which the strategy must find unused.
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=choose_communication(len(tf.config.list_physical_devices("GPU")))
    )
    try:
        with quiet_stderr():
            cluster = Cluster(
                tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
            )
    except tf.errors.OpError as error:
        raise UserError(
            f"{TF_CONFIG}: cannot start the cluster of {', '.join(addresses)}: "
            f"{error.message.splitlines()[0]}"
        ) from None
    say(f"train: worker {cluster.worker} of {cluster.workers}, {cluster.replicas} replicas in all")
    return cluster


def choose_communication(
    gpus: int,
) -> "tf.distribute.experimental.CommunicationImplementation":
    """How workers add up their gradients: by NCCL on GPUs, else by TensorFlow's own ring.

    TensorFlow's AUTO is the ring on GPUs too, over the hosts' memory. A worker knows only itself
    before the cluster starts. This is enough: the strategy needs the same number of GPUs on
    every worker, so its own say what all have.

    Args:
        gpus: number of GPUs of this worker.
    """
    communication = tf.distribute.experimental.CommunicationImplementation
    return communication.NCCL if gpus else communication.RING


def read_tf_config(text: str) -> tuple[list[str], str]:
    """Addresses of all workers, and this one's name ("worker 1"), from TF_CONFIG's JSON.

    Raises:
        UserError: it is not {"cluster": {"worker": [host:port, ...]}, "task": {"type":
            "worker", "index": N}}, where a "chief" may come before the workers.
    """
    form = (
        f'{TF_CONFIG}: must be {{"cluster": {{"worker": ["host:port", ...]}}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    if not text:
        raise UserError(f"{form}; it is not set")
    try:
        config: dict[str, Any] = json.loads(text)
        cluster, task = dict(config["cluster"]), config["task"]
        addresses = [a for job in ("chief", "worker") for a in cluster.get(job, [])]
        kind, index = task["type"], int(task["index"])
        own = cluster[kind][index]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{form}; {type(error).__name__}: {error}") from None
    odd = sorted(set(cluster) - {"chief", "worker"})
    if odd or index < 0 or own not in addresses or len(set(addresses)) < len(addresses):
        what = f"jobs {', '.join(odd)} are not for this strategy" if odd else "addresses or index"
        raise UserError(f"{form}; {what}: {text}")
    return addresses, f"{kind} {index}"
