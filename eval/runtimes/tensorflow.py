"""Runs model directories on TensorFlow: each net's own operations, or its Keras model in a graph.

See train.nets.protocol, `lowered`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge.errors import FramesError, UserError
from stemforge.eval.config import Precision
from stemforge.train.model_files import Interface, read_card, read_weights
from stemforge.train.nets.protocol import Net


@functools.lru_cache(maxsize=16)  # a function may hold a Keras model
def _compiled(run: Callable[[Any, Any], list[Any]]) -> Any:
    """Compiles a function once for all nets that share it; their weights are arguments."""
    return tf.function(run, autograph=False)


class TensorFlowNets:
    """One model's nets on TensorFlow.

    Args:
        interface: its inputs and outputs.
        net: the nets' kind and shape, of the interface's size.
        weights: by name, as in a model directory.
        precision: "bfloat16" computes all but masks and estimates in bfloat16.

    Raises:
        UserError: the weights do not fit.
    """

    def __init__(
        self,
        interface: Interface,
        net: Net,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        precision: Precision = "float32",
    ) -> None:
        self.interface = interface
        lowered = net.lowered(weights, interface.stems, library="onednn", precision=precision)
        self._values = tf.nest.map_structure(tf.constant, lowered.values)
        self._run = _compiled(lowered.run)

    def __call__(self, mixture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Estimates the stems' magnitudes.

        Args:
            mixture: float32 [frames, bins, 2], magnitudes.

        Returns:
            float32 [frames, bins, 2] per stem.
        """
        found = self._run(tf.constant(mixture[None]), self._values)
        return {
            stem: values.numpy()[0]
            for stem, values in zip(self.interface.stems, found, strict=True)
        }


def load_nets(
    folder: Path,
    *,
    precision: Precision = "float32",
    max_frequency_hz: float | None = None,
    frames: int | None = None,
) -> TensorFlowNets:
    """Reads a model directory.

    Args:
        folder: the model directory.
        precision: see TensorFlowNets.
        max_frequency_hz: highest frequency that the nets process, rounded up to a size that they
            support; None: as trained.
        frames: number of frames that the nets process at once; None: as trained.

    Raises:
        FramesError: the nets do not run on so many frames.
        UserError: it is not a model directory, its weights do not fit, or the frequency is not
            above 0 and at most half the sampling rate, or not one that the nets support.
    """
    card = read_card(folder)
    net: Net = card["net"]
    interface = Interface.from_card(card)
    bins = None
    if max_frequency_hz is not None:
        nyquist_hz = interface.sample_rate_hz / 2
        if not 0.0 < max_frequency_hz <= nyquist_hz:
            raise UserError(
                f"max_frequency_hz={max_frequency_hz:g}: must be above 0 and at most "
                f"{nyquist_hz:g}, half the models' sampling rate"
            )
        wanted = max_frequency_hz * interface.frame_length_samples / interface.sample_rate_hz
        bins = math.ceil(wanted / net.multiple) * net.multiple
        if bins != net.bins and "bins" in net.fixed:
            top_hz = net.bins * interface.sample_rate_hz / interface.frame_length_samples
            raise UserError(
                f"{folder}: net.{net.fixed['bins']} has a fixed number of bins ({net.bins} = "
                f"{top_hz:.0f} Hz): leave out --max-frequency-hz"
            )
    net = net.resized(bins=bins)
    try:
        net = net.resized(frames=frames)
    except UserError as error:
        raise FramesError(str(error)) from None
    interface = replace(interface, frames=net.frames, bins=net.bins)
    return TensorFlowNets(interface, net, read_weights(folder), precision=precision)
