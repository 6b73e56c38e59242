"""TFC-TDF U-Net, one for each stem: its fields.

- training: the nets as Keras models
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stemforge.errors import UserError
from stemforge.text import show
from stemforge.train.config import Precision
from stemforge.train.nets.protocol import InputScale, Net

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TFCTDF(Net):
    """The fields of a TFC-TDF U-Net on magnitudes.

    Blocks of time-frequency convolutions (TFC) and of time-distributed dense layers over all
    bins of a frame (TDF), which see harmonics far apart: Choi, Kim, Chung, Lee, Jung,
    Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
    separation (ISMIR 2020); Kim, Choi, Chung, Lee, Jung, KUIELab-MDX-Net (2021), with the norms
    and the residual links of Kim, Lee, Jung, Sound demixing challenge 2023 (TFC-TDF-UNet v3).
    They estimate complex spectrograms with hundreds of channels. This net estimates masks. Folded
    bins and a first convolution of stride 2 let it cost no more than Spleeter's U-Net.

    Attributes:
        frames: frames in and out, T; a multiple of 2 ** (depth + 1).
        bins: lowest bins of the STFT, F; a multiple of fold * 2 ** (depth + 1) that leaves each
            dense layer a unit.
        fold: neighbouring bins that are one bin's channels inside the net: it sees F / fold bins.
        width: channels after the first convolution.
        growth: channels that each level adds.
        depth: number of times that a level halves frames and bins after the first convolution.
        bottleneck: a dense pair goes from n bins to n / bottleneck units and back.
        input_scale: of the net's input: the magnitudes, their square root, or ln(1 + magnitude).
            The mask is multiplied by the magnitudes themselves.
    """

    kind: ClassVar[str] = "tfc_tdf"
    paper: ClassVar[str] = (
        "Choi, Kim, Chung, Lee, Jung: Investigating U-Nets with various intermediate blocks for "
        "spectrogram-based singing voice separation, ISMIR 2020"
    )
    fold: int
    width: int
    growth: int
    depth: int
    bottleneck: int
    input_scale: InputScale

    @property
    def multiple(self) -> int:
        """The first convolution and each level halve frames and bins."""
        return int(2 ** (self.depth + 1))

    @property
    def fixed(self) -> Mapping[str, str]:
        """The bins: each has weights of its own."""
        return {"bins": f"kind={self.kind}"}

    def check(self) -> None:
        """See Net.check.

        Raises:
            UserError: a field is out of its range, or a size is not a multiple of
                2 ** (depth + 1).
        """
        self.check_ranges(("fold", 1, 64), ("width", 1, 1024), ("growth", 0, 1024), ("depth", 1, 8))
        super().check()
        deepest, rest = divmod(self.bins, self.fold * self.multiple)
        if rest:
            raise UserError(
                f"bins={show(self.bins)}: must be a multiple of {self.fold * self.multiple} with "
                f"fold={self.fold}"
            )
        if not 1 <= self.bottleneck <= deepest:
            raise UserError(
                f"bottleneck={show(self.bottleneck)}: must be 1 to {deepest}, the bins of the "
                "deepest level"
            )

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> "keras.Model":
        """See Net.build."""
        from stemforge.train.nets.tfc_tdf import training

        return training.build(self, stems, seed=seed, precision=precision)

    def describe(self) -> str:
        """See Net.describe."""
        return (
            f"TFC-TDF U-Net, {self.depth} levels, {self.width} channels and {self.growth} more a "
            f"level, {self.fold} bins folded, dense layers to 1/{self.bottleneck} of the bins, "
            f"{self.input_scale} input, sigmoid masks"
        )
