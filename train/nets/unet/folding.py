"""A trained U-Net's weights in the form that its operations need; NumPy alone.

Affine and batch norms become a scale and a shift per channel.

A 5x5 transposed convolution of stride 2 equals four convolutions, one for each phase of its
output: output row 2i + r uses input row i + d with tap r + 1 - 2d, for d in -1, 0, 1, where
taps reach from 0 to 4. XNNPACK runs the four at the speed of its matrix products, and oneDNN
the transposed convolution itself. One or two channels are too few to use either library fully.
So in the last decoder, the mask and, for XNNPACK, the first encoder, the phases of an image are
its channels: space_to_depth and depth_to_space convert between the two. This also saves memory:
XNNPACK keeps a pointer for each tap of each output pixel, which made up half of its memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.train.nets.protocol import NORM_EPSILON, Library
from stemforge.train.nets.unet import Norm, UNet

Weights = dict[str, NDArray[Any]]


def fold(
    weights: Mapping[str, NDArray[np.float32]],
    net: UNet,
    stems: Sequence[str],
    *,
    library: Library,
) -> list[Weights]:
    """Converts a model directory's weights, by name, into those that the operations need.

    Args:
        weights: "encoder_0/kernel" and so on, float32; for several stems, with a stem's prefix.
        net: their shape.
        stems: what they estimate.
        library: which one will run them; it decides the form of the kernels.

    Returns:
        For each stem its layers' "kernel" and "bias", and "scale" and "shift" of its norms,
        float32.

    Raises:
        UserError: a weight is missing or of another shape than the net's.
    """
    found = []
    for stem in stems:
        prefix = f"{stem}_" if len(stems) > 1 else ""
        folded: Weights = {}
        for name, shape in shapes(net).items():
            value = weights.get(prefix + name)
            if value is None or value.shape != shape:
                size = "missing" if value is None else f"{list(value.shape)}, not {list(shape)}"
                raise UserError(f"weights do not fit the net: {prefix}{name} is {size}")
            folded[name] = value
        _fold_norms(folded, net.norm)
        if library == "xnnpack":
            folded["encoder_0/kernel"] = _first_phases(folded["encoder_0/kernel"])
            for level in range(net.depth - 1):
                kernel = folded.pop(f"decoder_{level}/kernel")
                folded |= {f"decoder_{level}/{n}": k for n, k in phase_kernels(kernel).items()}
        last = f"decoder_{net.depth - 1}"
        folded[f"{last}/kernel"] = _one_filter_phases(folded[f"{last}/kernel"])
        folded["mask/kernel"] = _mask_phases(folded["mask/kernel"])
        folded |= {
            f"{name}/bias": np.tile(folded[f"{name}/bias"], n)
            for name, n in ((last, 4), ("mask", 16))
        }
        found.append(folded)
    return found


def _fold_norms(weights: Weights, kind: Norm) -> None:
    """Replaces a net's norms by a scale and a shift each."""
    for norm in sorted({name.split("/")[0] for name in weights if "_norm_" in name}):
        scale, shift = weights.pop(f"{norm}/gamma"), weights.pop(f"{norm}/beta")
        if kind == "instance":  # whose statistics are known only when it runs
            weights |= {f"{norm}/scale": scale, f"{norm}/shift": shift}
            continue
        if kind == "batch":
            variance = weights.pop(f"{norm}/moving_variance")
            mean = weights.pop(f"{norm}/moving_mean")
        else:  # batch norm whose statistics stay 0 and 1
            mean, variance = np.zeros_like(shift), np.ones_like(scale)
        scale = scale / np.sqrt(variance + np.float32(NORM_EPSILON))
        weights |= {f"{norm}/scale": scale, f"{norm}/shift": shift - mean * scale}


def shapes(net: UNet) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one stem's weights in a model directory."""
    filters = [net.width * 2**level for level in range(net.depth)]
    layers: dict[str, tuple[int, ...]] = {"mask": (4, 4, 1, 2)}
    layers |= {
        f"encoder_{level}": (5, 5, inputs, outputs)
        for level, (inputs, outputs) in enumerate(zip([2, *filters], filters, strict=False))
    }
    norms = {f"encoder_norm_{level}": filters[level] for level in range(net.depth - 1)}
    inputs = filters[-1]
    for level, outputs in enumerate([*reversed(filters[:-1]), 1]):
        layers[f"decoder_{level}"] = (5, 5, outputs, inputs)
        norms[f"decoder_norm_{level}"] = outputs
        inputs = 2 * outputs  # with the skip
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        found[f"{name}/kernel"] = shape
        found[f"{name}/bias"] = (shape[2] if name.startswith("decoder") else shape[3],)
    values = ("gamma", "beta", "moving_mean", "moving_variance")[: 4 if net.norm == "batch" else 2]
    return found | {f"{norm}/{v}": (size,) for norm, size in norms.items() for v in values}


# Taps of a transposed convolution that an output row (or column) uses, by its phase.
TAPS = ((3, 1), (4, 2, 0))


def phase_kernels(kernel: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """A transposed convolution's kernel as one for each phase of its output.

    Args:
        kernel: float32 [5, 5, outputs, inputs].

    Returns:
        "kernel_00", "kernel_01", "kernel_10" and "kernel_11", by phase of row and column:
        float32 [2 or 3, 2 or 3, inputs, outputs].
    """
    return {
        f"kernel_{row}{column}": np.ascontiguousarray(
            kernel[np.ix_(TAPS[row], TAPS[column])].swapaxes(2, 3)
        )
        for row in (0, 1)
        for column in (0, 1)
    }


def _first_phases(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """[5, 5, inputs, outputs] of stride 2 to [3, 3, 4 inputs, outputs] after space_to_depth.

    Output row i uses rows 2i - 1 + k, for k = 0 to 4 ("same" padding of an even size).
    """
    inputs, outputs = kernel.shape[2:]
    out = np.zeros((3, 3, 2, 2, inputs, outputs), np.float32)
    for k, m in np.ndindex(5, 5):
        (dy, row), (dx, column) = divmod(k - 1, 2), divmod(m - 1, 2)
        out[dy + 1, dx + 1, row, column] = kernel[k, m]
    return out.reshape(3, 3, 4 * inputs, outputs)


def _one_filter_phases(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """[5, 5, 1, inputs] to [3, 3, inputs, 4]: the phases as channels, absent taps zero."""
    out = np.zeros((3, 3, kernel.shape[3], 4), np.float32)
    for number, (name, phase) in enumerate(phase_kernels(kernel).items()):
        rows, columns = phase.shape[:2]
        assert name == f"kernel_{rows - 2}{columns - 2}"
        out[:rows, :columns, :, number] = phase[..., 0]
    return out


def _mask_phases(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """[4, 4, 1, 2] of dilation 2 to [3, 3, 16, 32]: the same from 4 x 4 phases to such phases.

    Output row y uses rows y - 3 + 2k, for k = 0 to 3 ("same" padding). Row 4i + 2a + b is phase b
    of row 2i + a of the last decoder, so that space_to_depth puts a before b.
    """
    out = np.zeros((3, 3, 2, 2, 2, 2, 4, 4, 2), np.float32)  # [.., a, a, b, b, row, column, 2]
    for row, column, k, m in np.ndindex(4, 4, 4, 4):
        dy, from_row = divmod(row - 3 + 2 * k, 4)
        dx, from_column = divmod(column - 3 + 2 * m, 4)
        (ay, by), (ax, bx) = divmod(from_row, 2), divmod(from_column, 2)
        out[dy + 1, dx + 1, ay, ax, by, bx, row, column] = kernel[k, m, 0]
    return out.reshape(3, 3, 16, 32)
