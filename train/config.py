"""The parameters of a training run; this module does not import TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stemforge.train.sampler import Sampling

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]  # in training
InferencePrecision = Literal["float32", "bfloat16"]
LossName = Literal["l1", "weighted_l1"]
OptimizerName = Literal["adam", "adamw", "adadelta", "sgd"]
Schedule = Literal["constant", "cosine", "plateau"]
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
        weight_decay: of adamw, per step and relative to the learning rate; else None.
        clip_norm: gradients are scaled down to this global norm; None: never.
        ema_momentum: share of the old average that the weights' exponential moving average
            keeps at each step; None: no average.
        schedule: course of the learning rate after the warm-up.
        warmup_steps: the rate rises linearly over this many steps.
        cosine_end: of "cosine": share of the rate that is left at the last step.
        plateau_factor: of "plateau": the rate is multiplied by it at each plateau.
        patience: validations without a new best that make a plateau; None: no plateaus.
        max_plateaus: the run ends at this many plateaus; None: never early.
    """

    optimizer: OptimizerName
    learning_rate: float
    weight_decay: float | None
    clip_norm: float | None
    ema_momentum: float | None
    schedule: Schedule
    warmup_steps: int
    cosine_end: float | None
    plateau_factor: float | None
    patience: int | None
    max_plateaus: int | None


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        sampling: how windows are drawn.
        batch_size: windows per step.
        steps: number of steps.
        loss: summed over the model's stems.
        stem_weights: factors of the stems' losses in that sum; None: all 1.
        optimization: how weights are updated.
        precision: in which the nets compute; weights are float32.
        seed: of initial weights, dropout and sampling.
        log_every_steps: each row of history holds the mean loss of this many steps.
        validate_every_steps: steps between validations.
        validation_windows: at most this many windows of the valid split.
        checkpoint_every_steps: steps between checkpoints.
        keep_best: the weights of this many smallest validation losses are kept.
    """

    sampling: Sampling
    batch_size: int
    steps: int
    loss: LossName
    stem_weights: Mapping[str, float] | None
    optimization: Optimization
    precision: Precision
    seed: int
    log_every_steps: int
    validate_every_steps: int
    validation_windows: int
    checkpoint_every_steps: int
    keep_best: int
