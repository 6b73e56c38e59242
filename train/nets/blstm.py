"""Spleeter's other net: three bidirectional LSTM layers, one net for each stem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stemforge.train.config import Precision
from stemforge.train.nets.protocol import Net

if TYPE_CHECKING:
    import keras

    from stemforge.train.nets.parts import Parts

LAYERS = 3


@dataclass(frozen=True)
class BLSTM(Net):
    """Bins and channels of a frame as one vector, LSTM layers over frames, a dense layer.

    Uhlich, Porcu, Giron, Enenkl, Kemp, Takahashi, Mitsufuji: Improving music source separation
    based on deep neural networks through data augmentation and network blending (ICASSP 2017),
    with Spleeter's sizes in brackets. Each layer has the LSTM of Hochreiter and Schmidhuber
    (1997) with a forget gate: with i, f, o the sigmoids and g the tanh of W x + R h + b, the
    cell is c' = f c + i g and the output h' = o tanh(c').

    Attributes:
        units: of each direction of each of the three layers [250].
        activation: of the dense layer. "relu": its output is the stem's magnitude [relu];
            "sigmoid": its output is a mask in [0, 1], times the mixture.
    """

    kind: ClassVar[str] = "blstm"
    paper: ClassVar[str] = (
        "Uhlich, Porcu, Giron, Enenkl, Kemp, Takahashi, Mitsufuji: Improving music source "
        "separation based on deep neural networks through data augmentation and network "
        "blending, ICASSP 2017"
    )
    units: int
    activation: Literal["relu", "sigmoid"]

    @property
    def fixed(self) -> Mapping[str, str]:
        """The bins: each has weights of its own."""
        return {"bins": f"kind={self.kind}"}

    def check(self) -> None:
        """See Net.check.

        Raises:
            UserError: a field is out of its range.
        """
        self.check_ranges(("units", 1, 4096))
        super().check()

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> "keras.Model":
        """See Net.build."""
        from stemforge.train.nets.parts import model_of

        return model_of(self, stems, self._estimate, seed=seed, precision=precision)

    def _estimate(self, mixture: Any, parts: "Parts") -> Any:
        from keras import layers

        from stemforge.train.nets.parts import masked

        values = 2 * self.bins
        x = layers.Reshape((self.frames, values), **parts.name("frames"))(mixture)
        for number in range(LAYERS):
            x = parts.bidirectional(f"lstm_{number}", self.units)(x)  # [b, T, 2 units]
        x = layers.Dense(values, **parts.kernel("dense"))(x)
        # "bins", not "mask": the values of a ReLU are no mask.
        x = layers.Reshape((self.frames, self.bins, 2), **parts.name("bins"))(x)
        if self.activation == "sigmoid":
            return masked(mixture, x, parts)
        return layers.Activation("relu", name=parts.name("estimate")["name"], dtype="float32")(x)

    def describe(self) -> str:
        """See Net.describe."""
        output = "magnitudes" if self.activation == "relu" else "masks"
        return (
            f"{LAYERS} bidirectional LSTM layers of {self.units} units, {self.activation} {output}"
        )
