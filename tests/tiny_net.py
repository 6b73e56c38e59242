"""A second net, of a few layers, to show that a net is one file and a line in the table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import pytest
from keras import layers

from stemforge.train.config import Precision
from stemforge.train.nets import NETS
from stemforge.train.nets.protocol import Net


@keras.saving.register_keras_serializable("tests")
class Penalty(layers.Layer):  # type: ignore[misc]
    """Passes its input on, and adds a loss of its own: a share of the mean square."""

    def __init__(self, share: float, **more: Any) -> None:
        super().__init__(**more)
        self._share = share

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.add_loss(self._share * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


@dataclass(frozen=True)
class TinyNet(Net):
    """A convolution, a transposed one, a dense layer and a convolution to a mask.

    Attributes:
        channels: of the first.
        activation: of the first.
        penalty: share of the loss of its own.
    """

    kind: ClassVar[str] = "tiny"
    training_only: ClassVar[frozenset[str]] = frozenset({"penalty"})
    channels: int
    activation: Literal["relu", "elu"]
    penalty: float

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> keras.Model:
        mixture = keras.Input((self.frames, self.bins, 2), name="mixture")
        found = {}
        for stem in stems:
            options: dict[str, Any] = {"padding": "same", "dtype": precision}
            first = keras.initializers.HeUniform(seed=seed)
            x = layers.Conv2D(
                self.channels, 3, activation=self.activation, kernel_initializer=first,
                name=f"{stem}_first", **options,
            )(mixture)  # fmt: skip
            if self.penalty:
                x = Penalty(self.penalty, name=f"{stem}_penalty", dtype=precision)(x)
            x = layers.Conv2DTranspose(
                self.channels, 3, kernel_initializer=first, name=f"{stem}_back", **options
            )(x)
            x = layers.Dense(
                8 * self.channels, kernel_initializer=first, name=f"{stem}_dense", dtype=precision
            )(x)
            second = keras.initializers.HeUniform(seed=seed + 1)
            x = layers.Conv2D(2, 3, kernel_initializer=second, name=f"{stem}_mask", **options)(x)
            mask = layers.Activation("sigmoid", dtype="float32")(x)
            found[stem] = layers.Multiply(name=f"{stem}_estimate", dtype="float32")([mask, mixture])
        return keras.Model(mixture, found)

    def describe(self) -> str:
        return f"four layers, {self.channels} channels, {self.activation}"


@contextmanager
def in_the_table() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETS, TinyNet.kind, TinyNet)
        yield
