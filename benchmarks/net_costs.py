"""What each kind of net costs at full size: parameters, arithmetic, time of a training step.

    python -m benchmarks.net_costs [--kinds unet tfc_tdf]

One stem, 1024 bins. The multiply-adds are those of convolutions, dense and LSTM layers, for one
second of audio; norms and activations are not counted. A step is forward, gradients and Adam in
float32 on random windows; medians of the turns, all kinds in each, relative to the U-Net. The
time on all processor cores together depends less on what else the machine does than the seconds.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import RATE_HZ
from benchmarks.full_size import training_config
from stemforge.train.batch import Batch
from stemforge.train.cluster import Cluster
from stemforge.train.nets import read_net
from stemforge.train.nets.protocol import Net
from stemforge.train.step import Step

HOP_SAMPLES = 1024
STEM = "vocals"
UNET_SIZES = {"width": 16, "depth": 5, "activation": "selu", "centre_scale": True}
# docs/training.md lists the same fields.
FULL_SIZE: dict[str, dict[str, Any]] = {
    "unet": {
        "width": 16, "depth": 6, "norm": "batch", "dropout": 0.0, "encoder_activation": "elu",
        "decoder_activation": "elu", "head": "sigmoid", "input_scale": "linear",
    },
    "blstm": {"units": 250, "activation": "relu"},
    "unet_lstm": {
        **UNET_SIZES, "hidden": 256, "layers": 3, "dropout": 0.4, "mask": "sigmoid",
        "bottleneck": "lstm",
    },
    "unet_vae": {
        **UNET_SIZES, "hidden": 256, "layers": 3, "dropout": 0.4, "mask": "sigmoid",
        "latent": 256,
    },
    "tfc_tdf": {
        "fold": 2, "width": 24, "growth": 24, "depth": 3, "bottleneck": 4, "input_scale": "log",
    },
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=FULL_SIZE, default=[*FULL_SIZE])
    parser.add_argument("--frames", type=int, default=256, help="of a window (%(default)s)")
    parser.add_argument("--bins", type=int, default=1024, help="of the STFT (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="windows of a step (%(default)s)")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args(argv)
    kinds = list(dict.fromkeys(["unet", *arguments.kinds]))
    nets = {kind: net_of(kind, arguments.frames, arguments.bins) for kind in kinds}
    costs = {}
    runs: dict[tuple[str, str], Callable[[], float]] = {}
    for kind, net in nets.items():
        step = Step(net, training_config(), stems=(STEM,), weights=None, cluster=Cluster())
        costs[kind] = step.model.count_params(), multiply_adds_a_second(net, STEM)
        taken = _Taken(step, arguments.batch)
        runs |= {(kind, "wall"): taken.wall, (kind, "cores"): taken.cores}
    found = common.turn_by_turn(runs, arguments.turns, warm_up=1)
    rows = []
    for kind, (parameters, operations) in costs.items():
        cells = [f"{found[kind, c] / found['unet', c]:.2f}" for c in ("wall", "cores")]
        size = f"{parameters / 1e6:.2f}", f"{operations / 1e6:.0f}"
        rows.append((kind, *size, f"{found[kind, 'wall']:.2f}", *cells))
    columns = ("net", "million parameters", "million multiply-adds a second of audio")
    times = ("seconds a step", "relative", "relative, all cores")
    common.print_table((*columns, *times), rows)


def net_of(kind: str, frames: int, bins: int) -> Net:
    """A kind of net with its fields at full size."""
    return read_net({"kind": kind, "frames": frames, "bins": bins, **FULL_SIZE[kind]})


def multiply_adds_a_second(net: Net, stem: str) -> float:
    """Multiply-adds of a net of one stem for a second of audio."""
    return multiply_adds(net.build([stem])) / (net.frames * HOP_SAMPLES / RATE_HZ)


def multiply_adds(model: Any) -> int:
    """Multiply-adds of a Keras model's convolutions, dense and LSTM layers, for one window."""
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: Any) -> int:
    from keras import layers

    if isinstance(layer, layers.Bidirectional):
        cells = [part.cell for part in (layer.forward_layer, layer.backward_layer)]
        sizes = [w.shape for cell in cells for w in (cell.kernel, cell.recurrent_kernel)]
        return int(layer.input.shape[1] * sum(np.prod(size) for size in sizes))
    if isinstance(layer, layers.Conv2DTranspose):  # every tap for every input
        return int(np.prod(layer.input.shape[1:3]) * np.prod(layer.kernel.shape))
    if isinstance(layer, layers.Conv2D | layers.Dense):
        return int(np.prod(layer.output.shape[1:-1]) * np.prod(layer.kernel.shape))
    return 0


class _Taken:
    """Times steps on the same random windows."""

    def __init__(self, step: Step, windows: int) -> None:
        _, frames, bins, channels = step.model.input_shape
        random = np.random.default_rng(0)
        mixture = random.exponential(size=(windows, frames, bins, channels)).astype(np.float32)
        self._step, self._batch = step, Batch(mixture, {STEM: mixture / 2})
        self._cores = 0.0

    def wall(self) -> float:
        """Seconds of a step."""
        before = time.process_time()
        seconds = common.timed(lambda: float(self._step.train(self._batch)[0]))
        self._cores = time.process_time() - before
        return seconds

    def cores(self) -> float:
        """Seconds of all cores in the step that `wall` has just run."""
        return self._cores


if __name__ == "__main__":
    main()
