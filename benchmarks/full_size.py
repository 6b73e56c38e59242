"""Spleeter's net, which most benchmarks run, and the time it would take at this machine's peak.

The peak is what a large matrix product reaches.
"""

import argparse
import dataclasses
from collections.abc import Callable

from ruamel.yaml import YAML

from benchmarks.common import ROOT
from stemforge.pipelines.params import PARAMS, Params
from stemforge.train.config import TrainConfig
from stemforge.train.nets.unet import UNet

FRAMES, WIDTH = 512, 16
PRODUCTS = 3  # in each turn


def add_net(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help="that a net sees; a multiple of 64 (%(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=WIDTH, help="filters of its first block (%(default)s)"
    )


def add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--matrix",
        type=int,
        default=4096,
        help="side of the square matrices whose product is this machine's peak (%(default)s)",
    )


def net_of(arguments: argparse.Namespace) -> UNet:
    """The net of `--frames` and `--width`; Spleeter's by default."""
    return dataclasses.replace(full_size(), frames=arguments.frames, width=arguments.width)


def full_size() -> UNet:
    return UNet(FRAMES, 1024, WIDTH, 6, "affine", 0.0, "elu", "elu", "sigmoid", "linear")


def refuse_other_sizes(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program if Spleeter's net would be compared with one of another size."""
    if net_of(arguments) != full_size() and not arguments.without_spleeter:
        parser.error(
            f"Spleeter's net has --frames {FRAMES} --width {WIDTH}: "
            "others only with --without-spleeter"
        )


def spleeter_params() -> Params:
    """The checkout's params.yaml with `train.preset: spleeter`."""
    values = YAML(typ="safe").load((ROOT / PARAMS).read_text(encoding="utf-8"))
    values["train"]["preset"] = "spleeter"
    return Params.model_validate(values)


def training_config() -> TrainConfig:
    """How `train.preset: spleeter` trains, without validations and checkpoints in between."""
    from stemforge.pipelines.running.training import net_and_config

    far = 10**6
    return dataclasses.replace(
        net_and_config(spleeter_params())[1],
        steps=far,
        validate_every_steps=far,
        checkpoint_every_steps=far,
    )


def forward_operations(net: UNet) -> float:
    """Floating-point operations of one stem's convolutions on one part: 12.2e9 at full size."""
    return sum(_layers(net))


def step_operations(net: UNet) -> float:
    """Of one stem's training step on one window.

    Forward, gradient by weights, and gradient by inputs, which the first layer does not need.
    """
    return 3 * forward_operations(net) - _layers(net)[0]


def _layers(net: UNet) -> list[float]:
    filters = [net.width * 2**level for level in range(net.depth)]
    area = net.frames * net.bins
    mask = area * 16 * 1 * 2
    found = []
    for inputs, outputs in zip([2, *filters], filters, strict=False):
        area //= 4
        found.append(area * 25 * inputs * outputs)
    inputs = filters[-1]
    for outputs in (*reversed(filters[:-1]), 1):  # transposed: every tap for every input
        found.append(area * 25 * inputs * outputs)
        area, inputs = area * 4, 2 * outputs
    return [2.0 * multiplications for multiplications in (*found, mask)]


def matrix_product(kind: str, side: int) -> Callable[[], int]:
    """Multiplies square matrices of a type; returns how many times."""
    from stemforge import tensorflow

    tensorflow.start()
    import tensorflow as tf

    a, b = (tf.cast(tf.random.normal((side, side)), kind) for _ in range(2))
    multiply = tf.function(tf.matmul)

    def run() -> int:
        for _ in range(PRODUCTS):
            multiply(a, b).numpy().item(0)
        return PRODUCTS

    return run


def product_operations(side: int) -> float:
    return 2.0 * side**3
