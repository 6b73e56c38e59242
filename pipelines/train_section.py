"""The section train of params.yaml: its keys, its presets, and what of it contradicts itself."""

from typing import Annotated, Any, get_args

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from stemforge.errors import UserError
from stemforge.pipelines.sections import CheckedSection, Count, Positive, Section, Share
from stemforge.train.config import (
    KL,
    NEED_WAVEFORMS,
    Augmentation,
    Input,
    LossName,
    OptimizerName,
    Precision,
    Schedule,
    SelectBy,
    read_loss,
)
from stemforge.train.nets import NETS, read_net
from stemforge.train.nets.protocol import Net
from stemforge.train.presets import PresetName, fill_in, preset_values
from stemforge.train.sampler import Sampling

NET = "train.net"


def _read_net(values: Any) -> Net:
    """A net of any kind in the table; each problem is named by its place in params.yaml."""
    try:
        return read_net(values)
    except UserError as error:
        named = [
            f"features.{text}" if text.startswith("bins=") else f"{NET}.{text}"
            for text in str(error).split("; ")
        ]
        raise ValueError("; ".join(named)) from None


def _read_loss(value: Any) -> dict[LossName, float]:
    try:
        return read_loss(value)
    except UserError as error:
        raise ValueError(f"train.{error}") from None


AnyNet = Annotated[Net, PlainValidator(_read_net), PlainSerializer(Net.fields)]
Losses = Annotated[dict[LossName, float], PlainValidator(_read_loss)]


class Augment(CheckedSection):
    """The values of train.config.Augmentation."""

    gain_db: Annotated[list[float], Field(min_length=2, max_length=2)]
    swap_channels: float
    flip_polarity: float
    remix: float

    def read(self) -> Augmentation:
        """As training takes it."""
        low, high = self.gain_db
        return Augmentation((low, high), self.swap_channels, self.flip_polarity, self.remix)


class Train(Section):
    """The nets and the training run."""

    preset: PresetName | None
    net: AnyNet
    sampling: Sampling
    batch_size: Count
    accumulate_steps: Count
    steps: Count
    input: Input
    augmentation: Augment | None
    loss: Losses
    stem_weights: Annotated[dict[str, Positive], Field(min_length=1)] | None
    optimizer: OptimizerName
    learning_rate: Positive
    learning_rates: Annotated[dict[str, Positive], Field(min_length=1)] | None
    weight_decay: Positive | None
    clip_norm: Positive | None
    ema_momentum: Share | None
    precision: Precision
    schedule: Schedule
    warmup_steps: Annotated[int, Field(ge=0)]
    cosine_end: Annotated[float, Field(ge=0.0, le=1.0)] | None
    plateau_factor: Share | None
    patience: Count | None
    min_improvement: Annotated[float, Field(ge=0.0)]
    max_plateaus: Count | None
    init_from: str | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no more
    log_every_steps: Count
    validate_every_steps: Count
    validation_windows: Count
    select_by: SelectBy
    sdr_songs: Count | None

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("preset") not in (*get_args(PresetName), None):
            return data
        name, preset = data.get("preset"), {}
        try:
            if name is not None:
                preset = preset_values(name, optimizer=data.get("optimizer"))
        except UserError as error:
            raise ValueError(f"preset={name}: {error}") from None
        try:
            return fill_in(data, preset)
        except UserError as error:
            raise ValueError(f"train.{error}") from None

    @model_validator(mode="after")
    def _consistent(self) -> "Train":
        for name, needs, value in (
            ("weight_decay", "optimizer", "adamw"),
            ("cosine_end", "schedule", "cosine"),
            ("plateau_factor", "schedule", "plateau"),
        ):
            given, used = getattr(self, name) is not None, getattr(self, needs) == value
            if given != used:
                raise ValueError(
                    f"{name}={getattr(self, name)} with {needs}={getattr(self, needs)}: set it "
                    f"for {needs}={value}, which needs it, else to none"
                )
        watched = self.schedule == "plateau" or self.max_plateaus is not None
        if watched != (self.patience is not None):
            raise ValueError(
                f"patience={self.patience} with schedule={self.schedule}, max_plateaus="
                f"{self.max_plateaus}: set it for schedule=plateau or max_plateaus, which need it, "
                "else to none"
            )
        if self.min_improvement and self.patience is None:
            raise ValueError(
                f"min_improvement={self.min_improvement} with patience=null: it says what resets "
                "patience: set patience, or min_improvement=0.0"
            )
        if self.select_by == "valid_sdr" and self.sdr_songs is None:
            raise ValueError(
                "select_by=valid_sdr with sdr_songs=null: no SDR is measured: set sdr_songs, or "
                "select_by=valid_loss"
            )
        if self.augmentation and self.input != "waveforms":
            raise ValueError(
                f"train.augmentation needs sound, and train.input={self.input} has none: set "
                "train.input=waveforms or train.augmentation=none"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps}: must be below steps={self.steps}")
        self._check_loss()
        return self

    def _check_loss(self) -> None:
        """Refuses a loss that the net does not add, or that has no waveforms to compare."""
        if KL in self.loss and KL not in self.net.own_losses:
            kinds = " or ".join(sorted(kind for kind, net in NETS.items() if KL in net.own_losses))
            raise ValueError(
                f"train.loss={KL}: train.net.kind={self.net.kind} adds no KL term: use "
                f"train.net.kind={kinds}, or leave {KL} out"
            )
        unheard = [name for name in self.loss if name in NEED_WAVEFORMS]
        if unheard and self.input == "features":
            raise ValueError(
                f"train.loss={unheard[0]} needs sound, and train.input=features has none: set "
                "train.input=waveforms"
            )
