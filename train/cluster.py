"""The replicas that train one model together: one device, or several of one or many processes.

A worker is a process, a replica one of its devices. Worker 0 is the chief: it alone reads and
writes checkpoints, and sends the start values to the others.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge.errors import IncompleteError, UserError
from stemforge.train.batch import Batch
from stemforge.train.dataset import Share

# What TensorFlow raises in the other workers when one has ended.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

HOSTS = 2**30  # key of the group of all workers' CPUs; TensorFlow counts its own groups from 1


class Cluster:
    """All replicas of a strategy, seen from one of its workers.

    Args:
        strategy: TensorFlow's; None: one device.

    Attributes:
        strategy: TensorFlow's.
        replicas: number of replicas of all workers together.
        workers: number of processes.
        worker: number of this process, counted from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas: int = self.strategy.num_replicas_in_sync
        self.workers, self.worker = 1, 0
        self._host: str | None = None
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = self.strategy.cluster_resolver
            spec = resolver.cluster_spec().as_dict()
            self.workers = sum(map(len, spec.values()))
            chiefs = len(spec.get("chief", ())) if resolver.task_type == "worker" else 0
            self.worker = chiefs + resolver.task_id
            self._host = f"/job:{resolver.task_type}/task:{resolver.task_id}/device:CPU:0"
        self._keys = itertools.count()
        self._add_up = tf.function(lambda values: [self._all_reduce(value) for value in values])

    @property
    def is_chief(self) -> bool:
        """Whether this process is worker 0."""
        return self.worker == 0

    @property
    def share(self) -> Share:
        """This worker's share of the validation."""
        return Share(self.worker, self.workers)

    @property
    def places(self) -> list[tuple[Share, str | None]]:
        """Each of this worker's replicas: its share of each batch, and its device.

        The device is None where there is one replica in all, on TensorFlow's default device.
        """
        if self.replicas == 1:
            return [(self.share, None)]
        devices = self.strategy.extended.worker_devices
        first = self.worker * len(devices)
        return [(Share(first + n, self.replicas), device) for n, device in enumerate(devices)]

    def check_batch(self, size: int) -> None:
        """Checks that all replicas can get the same number of windows.

        Raises:
            UserError: they cannot.
        """
        if size % self.replicas:
            raise UserError(
                f"train.batch_size={size}: {self.replicas} replicas cannot share it equally: "
                f"use a multiple of {self.replicas}"
            )

    def spread(self, parts: Sequence[Batch]) -> Batch:
        """Joins what this worker's replicas get, in the order of `places`, for strategy.run."""
        if self.replicas == 1:
            (whole,) = parts
            return whole

        def join(*values: Any) -> Any:
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: values[context.replica_id_in_sync_group % len(values)]
            )

        spread: Batch = tf.nest.map_structure(join, *parts)
        return spread

    def sum(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Sums of arrays over workers. Every worker must call it.

        The workers' CPUs add them up: no worker waits for the steps that its GPUs compute.

        Args:
            values: arrays of numbers, of the same shapes and types on all workers.
        """
        if self.workers == 1:
            return list(values)
        with tf.device(self._host):
            totals = self._add_up([tf.constant(value) for value in values])
        return [np.asarray(total) for total in totals]

    def _all_reduce(self, value: Any) -> Any:
        """Sum over the workers' CPUs; strategy.reduce would run on the replicas' devices."""
        return tf.raw_ops.CollectiveReduceV2(
            input=value,
            group_size=self.workers,
            group_key=HOSTS,
            instance_key=next(self._keys),  # all workers trace the same graphs in the same order
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
            communication_hint="RING",  # NCCL is for GPUs
        )

    def gather(self, values: Sequence[int]) -> NDArray[np.int64]:
        """All workers' integers, [workers, values]. Every worker must call it."""
        table = np.zeros((self.workers, len(values)), np.int64)
        table[self.worker] = values
        (whole,) = self.sum([table])
        return whole

    def from_chief(self, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The chief's arrays, bit for bit, except for the sign of zeros.

        Args:
            values: arrays of the same shapes and types on all workers.
        """
        return self.sum([v if self.is_chief else np.zeros_like(v) for v in values])

    def text_from_chief(self, text: str) -> str:
        """The chief's text."""
        if self.workers == 1:
            return text
        data = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        (size,) = self.from_chief([np.array(len(data), np.int64)])
        if not size:  # TensorFlow 2.21 crashes when it reduces nothing
            return ""
        (data,) = self.from_chief([data if self.is_chief else np.zeros(int(size), np.int32)])
        return data.astype(np.uint8).tobytes().decode()

    def wait(self) -> None:
        """Waits until all workers have called it."""
        self.gather([0])

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Wraps the work of several workers: reports that another worker has ended.

        Raises:
            IncompleteError: another worker has ended.
        """
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise IncompleteError(
                f"worker {self.worker} of {self.workers}: another worker has ended "
                f"({type(error).__name__}): start all workers again; they resume from the last "
                "checkpoint"
            ) from error
