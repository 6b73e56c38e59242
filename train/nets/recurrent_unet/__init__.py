"""auralflow's U-Nets with a recurrent bottleneck, one for each stem: their fields.

auralflow's own nets differ in these points, which are faults there. Its LSTM takes the windows of a
batch as its sequence, because it passes batch-first tensors to a time-first layer: an estimate
then depends on what else is in the batch. Here the frames are the sequence. Its VAE also draws
noise when it separates, so that no two runs agree: here the latent is then its mean. Its sigma is
the exponential of an unbounded value. A name of an activation that it does not know gives a
sigmoid: here it is an error. It also lists hardtanh, ELU and PReLU as masks; clamped to [0, 1],
they are all the ReLU.

- layers: its own Keras layers
- training: the nets as Keras models
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stemforge.errors import UserError
from stemforge.text import show
from stemforge.train.config import LossName, Precision
from stemforge.train.nets.protocol import Net

if TYPE_CHECKING:
    import keras

Bottleneck = Literal["conv", "lstm"]


@dataclass(frozen=True)
class RecurrentUNet(Net):
    """The fields that both nets have; auralflow's values in brackets.

    A level of the encoder is three times a 3x3 convolution, its activation and a batch norm;
    then its output is kept for the decoder, and max-pooling halves frames and bins. The
    bottleneck's LSTM layers see a vector of all bins and channels at each frame; two dense
    layers with SELU follow. A level of the decoder is a 5x5 transposed convolution of
    stride 2, a batch norm, the encoder's output beside it, and the triple again.

    Attributes:
        frames: frames in and out, T; a multiple of 2 ** depth.
        bins: lowest bins of the STFT, F; a multiple of 2 ** depth.
        width: channels of the first level [16]; each level doubles them, and so does the
            bottleneck.
        depth: number of levels [5].
        activation: of the triples ["selu"; "leaky_relu" with slope 0.2 here].
        centre_scale: whether a learned scale and shift of each bin comes first, and another one
            before the mask's activation [yes].
        hidden: units of each direction of an LSTM layer, and of the dense layer after them [1024].
        layers: LSTM layers [3].
        dropout: rate between LSTM layers [0.3] and after the first three levels of the decoder
            [0.4].
        mask: the mask's activation; the mask is clamped to [0, 1].
    """

    training_only: ClassVar[frozenset[str]] = frozenset({"dropout"})
    width: int
    depth: int
    activation: Literal["selu", "leaky_relu"]
    centre_scale: bool
    hidden: int
    layers: int
    dropout: float
    mask: Literal["sigmoid", "relu", "tanh"]

    @property
    def multiple(self) -> int:
        """Each level halves frames and bins."""
        return int(2**self.depth)

    @property
    def bottleneck_kind(self) -> Bottleneck:
        """What is between encoder and decoder."""
        return "lstm"

    @property
    def latent_units(self) -> int | None:
        """Units of the latent normal before the LSTM layers; None: there is none."""
        return None

    @property
    def fixed(self) -> Mapping[str, str]:
        """The bins, where each has weights of its own."""
        if self.bottleneck_kind == "lstm":
            return {"bins": f"kind={self.kind}"}
        return {"bins": "centre_scale=true"} if self.centre_scale else {}

    def check(self) -> None:
        """See Net.check.

        Raises:
            UserError: a field is out of its range, or a size is not a multiple of 2 ** depth.
        """
        self.check_ranges(("width", 1, 1024), ("depth", 1, 8))
        if self.bottleneck_kind == "lstm":
            self.check_ranges(("hidden", 1, 4096), ("layers", 1, 8))
        self.check_share("dropout")
        super().check()

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> "keras.Model":
        """See Net.build."""
        from stemforge.train.nets.recurrent_unet import training

        return training.build(self, stems, seed=seed, precision=precision)

    def describe(self) -> str:
        """See Net.describe."""
        bottleneck = "convolutions in the middle"
        if self.bottleneck_kind == "lstm":
            bottleneck = f"{self.layers} LSTM layers of {self.hidden} units in the middle"
        if self.latent_units is not None:
            bottleneck = f"a latent normal of {self.latent_units} units and {bottleneck}"
        return (
            f"U-Net, {self.depth} levels, {self.width} channels in the first, {self.activation}, "
            f"{bottleneck}, dropout {self.dropout}, {self.mask} masks"
        )


@dataclass(frozen=True)
class UNetLSTM(RecurrentUNet):
    """auralflow's SpectrogramNetLSTM, and its SpectrogramNetSimple (bottleneck: conv).

    Attributes:
        bottleneck: "lstm", or "conv" for the triple of convolutions; hidden and layers are then 0.
    """

    kind: ClassVar[str] = "unet_lstm"
    bottleneck: Bottleneck

    @property
    def bottleneck_kind(self) -> Bottleneck:
        """See RecurrentUNet."""
        return self.bottleneck

    def check(self) -> None:
        """See RecurrentUNet.check.

        Raises:
            UserError: also where sizes of an LSTM are given without one.
        """
        for name in ("hidden", "layers"):
            if self.bottleneck == "conv" and (value := getattr(self, name)):
                raise UserError(f"{name}={show(value)}: must be 0 with bottleneck=conv")
        super().check()


@dataclass(frozen=True)
class UNetVAE(RecurrentUNet):
    """auralflow's SpectrogramNetVAE: the LSTM layers see a draw from a normal distribution.

    Its mean and the logarithm of its deviation are dense layers of each frame. Training draws
    from it and adds its KL divergence from the standard normal: Kingma, Welling: Auto-encoding
    variational Bayes (ICLR 2014). Otherwise the LSTM layers see the mean.

    Attributes:
        latent: units of the normal [as many as bins times channels: 16 384 at full size].
    """

    kind: ClassVar[str] = "unet_vae"
    paper: ClassVar[str] = "Kingma, Welling: Auto-encoding variational Bayes, ICLR 2014"
    own_losses: ClassVar[frozenset[LossName]] = frozenset({"kl"})
    latent: int

    @property
    def latent_units(self) -> int:
        """See RecurrentUNet."""
        return self.latent

    def check(self) -> None:
        """See RecurrentUNet.check.

        Raises:
            UserError: likewise.
        """
        self.check_ranges(("latent", 1, 16384))
        super().check()
