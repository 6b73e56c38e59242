"""The parameters of a training run; this module does not import TensorFlow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from stemforge.errors import UserError
from stemforge.text import brief, show
from stemforge.train.sampler import Sampling

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]  # in training
InferencePrecision = Literal["float32", "bfloat16"]
TFLiteFormat = Literal["float32", "float16", "int8_weights", "int8_mixed"]
TFLITE_FORMATS: tuple[TFLiteFormat, ...] = get_args(TFLiteFormat)
LossName = Literal[
    "l1",
    "weighted_l1",
    "l2",
    "rmse",
    "log_l1",
    "mask",
    "component_2",
    "component_3",
    "phase_sensitive",
    "snr",
    "si_sdr",
    "multi_resolution_stft",
    "kl",
]
KL: LossName = "kl"  # the one that is no distance: what the net itself has added
# Losses of waveforms; the losses' own table says the same, but needs TensorFlow.
NEED_WAVEFORMS: frozenset[LossName] = frozenset(
    {"phase_sensitive", "snr", "si_sdr", "multi_resolution_stft"}
)
# Samples of the FFTs of multi_resolution_stft: Yamamoto et al. 2020.
FFT_LENGTHS = (512, 1024, 2048)
Input = Literal["features", "waveforms"]
MOST_GAIN_DB = 60.0  # of an augmentation: what features.validity.silence_db calls silence
OptimizerName = Literal["adam", "adamw", "adadelta", "sgd"]
Schedule = Literal["constant", "cosine", "plateau"]
SelectBy = Literal["valid_loss", "valid_sdr"]
# Which devices train one model. This depends on the machine, so variables set it.
STRATEGIES = ("default", "mirrored", "multi_worker")
STRATEGY = "STEMFORGE_STRATEGY"
TF_CONFIG = "TF_CONFIG"  # TensorFlow's: the workers' addresses


@dataclass(frozen=True)
class Optimization:
    """How weights are updated.

    Attributes:
        optimizer: Adam has betas 0.9 and 0.999.
        learning_rate: its largest value.
        learning_rates: factors of the learning rate by pattern of weights' names, see
            optimization.rate_factors; None: all 1.
        weight_decay: of adamw, per step and relative to the weight's learning rate; else None.
        clip_norm: gradients are scaled down to this global norm; None: never.
        ema_momentum: share of the old average that the weights' exponential moving average
            keeps at each step; None: no average.
        schedule: course of the learning rate after the warm-up.
        warmup_steps: the rate rises linearly over this many steps.
        cosine_end: of "cosine": share of the rate that is left at the last step.
        plateau_factor: of "plateau": the rate is multiplied by it at each plateau.
        patience: validations without a new best that make a plateau; None: no plateaus.
        min_improvement: a new best, for patience, is better than the last one by more than this.
        max_plateaus: the run ends at this many plateaus; None: never early.
    """

    optimizer: OptimizerName
    learning_rate: float
    learning_rates: Mapping[str, float] | None
    weight_decay: float | None
    clip_norm: float | None
    ema_momentum: float | None
    schedule: Schedule
    warmup_steps: int
    cosine_end: float | None
    plateau_factor: float | None
    patience: int | None
    min_improvement: float
    max_plateaus: int | None


@dataclass(frozen=True)
class Augmentation:
    """How much the stems of a window are changed; train/augmentation.py has the sources.

    Attributes:
        gain_db: each stem's gain is uniform between these two, in dB.
        swap_channels: probability that a stem's left and right channel change places.
        flip_polarity: probability that a stem is multiplied by -1.
        remix: probability that all stems of a window but one are of other songs.
    """

    gain_db: tuple[float, float]
    swap_channels: float
    flip_polarity: float
    remix: float

    def check(self) -> None:
        """Refuses ranges without numbers in them, and changes that change nothing.

        Raises:
            UserError: it does.
        """
        low, high = self.gain_db
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UserError(f"gain_db=[{low:g}, {high:g}]: must be two finite numbers of dB")
        if low < -MOST_GAIN_DB or high > MOST_GAIN_DB:
            raise UserError(
                f"gain_db=[{low:g}, {high:g}]: must be from {-MOST_GAIN_DB:g} to "
                f"{MOST_GAIN_DB:g} dB"
            )
        if low > high or low == high != 0.0:
            raise UserError(
                f"gain_db=[{low:g}, {high:g}]: not a range: the first number must be below the "
                "second; [0, 0] is no gain"
            )
        for name in ("swap_channels", "flip_polarity", "remix"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise UserError(f"{name}={value:g}: must be a probability, from 0 to 1")
        if not (low < high or self.swap_channels or self.flip_polarity or self.remix):
            raise UserError("changes nothing: give one of its keys a value, or set it to none")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        sampling: how windows are drawn.
        batch_size: windows per batch.
        accumulate_steps: batches per step, which updates the weights by their mean gradient.
        steps: number of steps.
        input: what windows are read from: magnitudes of the features, or the decoded WAV files.
        augmentation: of windows of WAV files; None: none.
        loss: factors of the losses that are summed, by name; each is summed over the model's
            stems.
        stem_weights: factors of the stems' losses in that sum; None: all 1.
        optimization: how weights are updated.
        precision: in which the nets compute; weights are float32.
        seed: of initial weights, dropout, latent draws, sampling and augmentation.
        log_every_steps: each row of history holds the mean loss of this many steps.
        validate_every_steps: steps between validations.
        validation_windows: at most this many windows of the valid split.
        checkpoint_every_steps: steps between checkpoints.
        keep_best: the weights of this many best validations are kept.
        select_by: what makes a validation the best: the smallest loss, or the highest SDR.
        sdr_songs: the SDR of at most this many songs of the valid split is measured at each
            validation; None: of none.
    """

    sampling: Sampling
    batch_size: int
    accumulate_steps: int
    steps: int
    input: Input
    augmentation: Augmentation | None
    loss: Mapping[LossName, float]
    stem_weights: Mapping[str, float] | None
    optimization: Optimization
    precision: Precision
    seed: int
    log_every_steps: int
    validate_every_steps: int
    validation_windows: int
    checkpoint_every_steps: int
    keep_best: int
    select_by: SelectBy
    sdr_songs: int | None


def read_loss(value: Any) -> dict[LossName, float]:
    """The weights of the losses from `train.loss`: one name, or a mapping from names to weights.

    Args:
        value: as YAML has it.

    Raises:
        UserError: one line that begins with "loss": a name is unknown, a weight is not positive
            and finite, or there is no distance to the stems.
    """
    weights = {value: 1.0} if isinstance(value, str) else value
    if not isinstance(weights, Mapping) or not weights:
        raise UserError(
            f"loss={show(value)}: must be a name, or names with weights: {{l1: 1.0, mask: 0.1}}"
        )
    names = get_args(LossName)
    for name, weight in weights.items():
        if name not in names:
            given = brief(name, 50) if isinstance(name, str) else show(name)
            raise UserError(f"loss={given}: must be one of {', '.join(names)}")
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0.0 < weight < math.inf:
            raise UserError(f"loss.{name}={show(weight)}: must be a positive, finite number")
    if [*weights] == [KL]:
        raise UserError(f"loss={KL}: compares no stem with its estimate: add a loss, such as l1")
    # Sorted: no hash of the parameters sees the order, so it must not decide what is summed first.
    return {cast("LossName", name): float(weights[name]) for name in sorted(weights)}
