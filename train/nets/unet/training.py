"""The U-Nets as Keras models, for training."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from stemforge.train.config import Precision
from stemforge.train.nets.parts import Compress, batch_norm
from stemforge.train.nets.unet import LEAKY_SLOPE, Activation, UNet
from stemforge.train.nets.unet.layers import Affine, InstanceNorm, OneFilterDeconvolution

KERNEL = 5
DROPOUT_LEVELS = 3  # dropout follows the first three decoder blocks


def build(
    net: UNet, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
) -> keras.Model:
    """Builds the nets of one model with fresh weights (he_uniform, as Spleeter).

    Args:
        net: their shape.
        stems: what they estimate; each has its own net.
        seed: of the initial weights and of dropout; all stems start with the same weights.
        precision: "mixed_bfloat16" and "mixed_float16" compute all but masks and estimates in
            16 bits.

    Returns:
        A model from mixture magnitudes, float32 [batch, frames, bins, 2], to a dictionary
        of the stems' magnitudes, each of that shape: the input times a mask in [0, 1].

    Raises:
        ValueError: a softmax of a single stem, which is 1 everywhere.
    """
    mixture = keras.Input((net.frames, net.bins, 2), name="mixture")  # [b, T, F, 2]
    shown = mixture
    if net.input_scale != "linear":  # in float32: 16 bits would lose quiet bins
        shown = Compress(net.input_scale, name="input_scale", dtype="float32")(mixture)
    logits = []
    for stem in stems:
        prefix = f"{stem}_" if len(stems) > 1 else ""
        logits.append(_logits(net, shown, prefix=prefix, seed=seed, precision=precision))
    logits = [keras.ops.cast(logit, "float32") for logit in logits]
    if net.head == "softmax":
        if len(stems) < 2:
            raise ValueError("head=softmax needs two stems or more")
        shares = keras.ops.softmax(keras.ops.stack(logits, axis=-1), axis=-1)
        masks = [shares[..., number] for number in range(len(stems))]
    else:
        masks = [layers.Activation("sigmoid", dtype="float32")(logit) for logit in logits]
    return keras.Model(
        mixture,
        {
            stem: layers.Multiply(name=f"{stem}_estimate", dtype="float32")([mask, mixture])
            for stem, mask in zip(stems, masks, strict=True)
        },
    )


def _logits(net: UNet, shown: Any, *, prefix: str, seed: int, precision: Precision) -> Any:
    """One stem's net up to its mask's logits, [batch, frames, bins, 2]."""
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    filters = [net.width * 2**level for level in range(net.depth)]  # 16 32 64 128 256 512

    def options(name: str) -> dict[str, Any]:
        init = keras.initializers.HeUniform(seed=next(seeds))
        return {"kernel_initializer": init, "name": prefix + name, "dtype": precision}

    def norm_and_activation(side: str, level: int) -> tuple[layers.Layer, layers.Layer]:
        norm = _norm(net, name=f"{prefix}{side}_norm_{level}", dtype=precision)
        kind = net.encoder_activation if side == "encoder" else net.decoder_activation
        return norm, _activation(kind, dtype=precision)

    x, skips = shown, []
    for level in range(net.depth):
        x = layers.Conv2D(  # [b, T / 2^(level + 1), F / 2^(level + 1), filters]
            filters[level], KERNEL, 2, "same", **options(f"encoder_{level}")
        )(x)
        skips.append(x)  # the raw convolution
        if level < net.depth - 1:
            norm, activation = norm_and_activation("encoder", level)
            x = activation(norm(x))
    skips.pop()  # the deepest one is x itself
    for level, width in enumerate([*reversed(filters[:-1]), 1]):
        kind = layers.Conv2DTranspose if width > 1 else OneFilterDeconvolution
        x = kind(  # [b, twice T, twice F, width]
            width, KERNEL, 2, "same", **options(f"decoder_{level}")
        )(x)
        norm, activation = norm_and_activation("decoder", level)
        x = norm(activation(x))
        if net.dropout and level < DROPOUT_LEVELS:
            x = layers.Dropout(net.dropout, seed=next(seeds), dtype=precision)(x)
        if skips:
            x = layers.Concatenate(dtype=precision)([skips.pop(), x])  # [b, ., ., 2 width]
    return layers.Conv2D(2, 4, 1, "same", dilation_rate=2, **options("mask"))(x)  # [b, T, F, 2]


def _norm(net: UNet, *, name: str, dtype: str) -> layers.Layer:
    if net.norm != "batch":
        kind = Affine if net.norm == "affine" else InstanceNorm
        return kind(name=name, dtype=dtype)
    return batch_norm(name=name, dtype=dtype)


def _activation(name: Activation, *, dtype: str) -> layers.Layer:
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope=LEAKY_SLOPE, dtype=dtype)
    return layers.Activation(name, dtype=dtype)
