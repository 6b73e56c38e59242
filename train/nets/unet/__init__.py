"""Spleeter's U-Net, one for each stem: its fields.

Hennequin, Khlif, Voituret, Moussallam: Spleeter (JOSS 2020), after Jansson et al., Singing
voice separation with deep U-Net convolutional networks (ISMIR 2017).

- layers: its own Keras layers
- training: the nets as Keras models
- folding: trained weights in the form that each library runs fastest
- inference: the trained nets as plain operations of TensorFlow
- tflite: the same operations as a TFLite file, written without TensorFlow
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stemforge.train.config import InferencePrecision, Precision
from stemforge.train.nets.protocol import InputScale, Library, Lowered, Net, Weights

if TYPE_CHECKING:
    import keras

Norm = Literal["affine", "batch", "instance"]
Activation = Literal["elu", "relu", "leaky_relu"]
Head = Literal["sigmoid", "softmax"]

LEAKY_SLOPE = 0.2  # of "leaky_relu"


@dataclass(frozen=True)
class UNet(Net):
    """The fields of a U-Net; Spleeter's values in brackets.

    Attributes:
        frames: frames in and out, T [512]; a multiple of 2 ** depth.
        bins: lowest bins of the STFT that it uses, F [1024]; a multiple of 2 ** depth.
        width: filters of the first encoder block [16]; each further block doubles them.
        depth: number of encoder blocks [6].
        norm: "affine" scales and shifts each channel, as the released models do; "batch"
            also normalises by batch statistics; "instance" by those of each window and channel
            alone, over its frames and bins, in training as in inference (Ulyanov, Vedaldi,
            Lempitsky, Instance normalization: the missing ingredient for fast stylization,
            2016). So a window that ends in padding is estimated a little differently.
        dropout: rate after the first three decoder blocks [0; Spleeter's code has 0.5, but
            never applies it].
        encoder_activation: ["leaky_relu" with slope 0.2 in 2stems, "elu" in 4stems and 5stems].
        decoder_activation: ["relu" in 2stems, "elu" in 4stems and 5stems].
        head: "sigmoid" gives each stem a mask of its own; "softmax" divides each bin among the
            stems of one model, so that their masks sum to 1 ["softmax" in 5stems].
        input_scale: of the net's input: the magnitudes ["linear"], their square root, or
            ln(1 + magnitude). The mask is multiplied by the magnitudes themselves.
    """

    kind: ClassVar[str] = "unet"
    paper: ClassVar[str] = "Hennequin, Khlif, Voituret, Moussallam: Spleeter, JOSS 2020"
    training_only: ClassVar[frozenset[str]] = frozenset({"dropout"})
    width: int
    depth: int
    norm: Norm
    dropout: float
    encoder_activation: Activation
    decoder_activation: Activation
    head: Head
    input_scale: InputScale

    @property
    def multiple(self) -> int:
        """Each block halves frames and bins."""
        return int(2**self.depth)

    @property
    def fixed(self) -> Mapping[str, str]:
        """Of instance norm the bins: its statistics are those of the bins in training."""
        return {"bins": f"norm={self.norm}"} if self.norm == "instance" else {}

    @property
    def needs_joint(self) -> bool:
        """True of a softmax: it divides each bin among all stems."""
        return self.head == "softmax"

    def check(self) -> None:
        """See Net.check.

        Raises:
            UserError: a field is out of its range, or a size is not a multiple of 2 ** depth.
        """
        # At depth 16 the shortest part is half an hour.
        self.check_ranges(("width", 1, 4096), ("depth", 2, 16))
        self.check_share("dropout")
        super().check()

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> "keras.Model":
        """See Net.build."""
        from stemforge.train.nets.unet import training

        return training.build(self, stems, seed=seed, precision=precision)

    def lowered(
        self,
        weights: Weights,
        stems: Sequence[str],
        *,
        library: Library,
        precision: InferencePrecision = "float32",
    ) -> Lowered:
        """See Net.lowered."""
        from stemforge.train.nets.unet import folding, inference

        nets = folding.fold(weights, self, stems, library=library)
        values = [inference.cast(net, precision) for net in nets]
        return Lowered(values, inference.runner(self, library))

    def int8_layers(self) -> list[str]:
        """The inner layers.

        The first two process the magnitudes, and the last three make the mask. The values of both
        are heavy-tailed. docs/export.md has the measurement of each layer, on Deezer's nets.
        """
        encoders = [f"encoder_{level}" for level in range(2, self.depth)]
        return encoders + [f"decoder_{level}" for level in range(self.depth - 3)]

    def describe(self) -> str:
        """See Net.describe."""
        return (
            f"U-Net, {self.depth} blocks, {self.width} filters in the first, "
            f"{self.encoder_activation} and {self.decoder_activation}, norm {self.norm}, "
            f"dropout {self.dropout}, {self.input_scale} input, {self.head} masks"
        )
