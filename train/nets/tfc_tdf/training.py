"""The TFC-TDF U-Nets as Keras models."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from stemforge.train.config import Precision
from stemforge.train.nets.parts import (
    Compress,
    DepthToSpace,
    Parts,
    SpaceToDepth,
    masked,
    model_of,
)
from stemforge.train.nets.tfc_tdf import TFCTDF

FIRST_KERNEL = 5  # of the first convolution, of stride 2, as the U-Net's


def build(
    net: TFCTDF, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
) -> keras.Model:
    """Builds the nets of one model with fresh weights; see Net.build."""

    def estimate(mixture: Any, parts: Parts) -> Any:
        return masked(mixture, _logits(net, mixture, parts), parts)

    return model_of(net, stems, estimate, seed=seed, precision=precision)


def _logits(net: TFCTDF, mixture: Any, parts: Parts) -> Any:
    """One stem's net up to its mask's logits, [batch, frames, bins, 2]."""
    scaled = {**parts.name("input_scale"), "dtype": "float32"}  # 16 bits would lose quiet bins
    shown = Compress(net.input_scale, **scaled)(mixture)
    shown = parts.norm("input_norm", axis=2)(shown)  # by bin: music falls off with frequency
    folded = (net.frames, net.bins // net.fold, 2 * net.fold)
    shown = layers.Reshape(folded, **parts.name("fold"))(shown)  # [b, T, F/fold, .]
    channels = [net.width + net.growth * level for level in range(net.depth + 1)]
    x = _convolution(shown, channels[0], FIRST_KERNEL, "first", parts, stride=2)  # [b, T/2, ., .]
    first, skips = x, []
    for level, deeper in enumerate(channels[1:]):
        x = _block(x, net, f"encoder_{level}", parts)
        skips.append(x)
        x = _convolution(x, deeper, 2, f"down_{level}", parts, stride=2)
    x = _block(x, net, "middle", parts)
    for level in reversed(range(net.depth)):
        x = layers.Conv2D(4 * channels[level], 1, **parts.kernel(f"up_{level}"))(x)
        x = DepthToSpace(**parts.name(f"up_space_{level}"))(x)
        x = _activated(x, f"up_{level}", parts)
        x = layers.Add(**parts.name(f"skip_{level}"))([x, skips.pop()])
        x = _block(x, net, f"decoder_{level}", parts)
    # The input itself, so that a mask can be as fine as the spectrogram.
    fine = SpaceToDepth(**parts.name("fine"))(shown)
    x = layers.Concatenate(**parts.name("last_input"))([x, first, fine])
    x = layers.Conv2D(4 * 2 * net.fold, 3, padding="same", **parts.kernel("last"))(x)
    x = DepthToSpace(**parts.name("last_space"))(x)  # [b, T, F/fold, 2 fold]
    return layers.Reshape((net.frames, net.bins, 2), **parts.name("unfold"))(x)


def _convolution(
    x: Any, channels: int, size: int, name: str, parts: Parts, *, stride: int = 1
) -> Any:
    # The norm has a shift of its own, so the convolution needs no bias.
    options = {"padding": "same", "use_bias": False, **parts.kernel(name)}
    x = layers.Conv2D(channels, size, stride, **options)(x)
    return _activated(x, name, parts)


def _activated(x: Any, name: str, parts: Parts) -> Any:
    x = parts.norm(f"{name}_norm")(x)
    return layers.Activation("relu", **parts.name(f"{name}_relu"))(x)


def _block(x: Any, net: TFCTDF, name: str, parts: Parts) -> Any:
    """A convolution, plus the dense pair of it, a convolution, plus the block's input."""
    _, _, bins, channels = x.shape
    y = _convolution(x, channels, 3, f"{name}_tfc_0", parts)
    z = layers.Permute((1, 3, 2), **parts.name(f"{name}_tdf_bins"))(y)  # [b, ., channels, bins]
    for number, units in enumerate((bins // net.bottleneck, bins)):
        dense = f"{name}_tdf_{number}"
        z = layers.Dense(units, use_bias=False, **parts.kernel(dense))(z)
        z = parts.norm(f"{dense}_norm", axis=2)(z)
        z = layers.Activation("relu", **parts.name(f"{dense}_relu"))(z)
    z = layers.Permute((1, 3, 2), **parts.name(f"{name}_tdf_channels"))(z)
    y = layers.Add(**parts.name(f"{name}_tdf_sum"))([y, z])
    y = _convolution(y, channels, 3, f"{name}_tfc_1", parts)
    return layers.Add(**parts.name(f"{name}_sum"))([x, y])
