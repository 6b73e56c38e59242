"""The only reader of params.yaml: strict, typed, without defaults."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.audio import Subtype
from features.encoding import Encoding, PhaseEncoding
from features.errors import UserError
from pipelines.console import run_main

PARAMS = Path("params.yaml")
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A section: frozen, no unknown key, no key missing, no value converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Corpus(Section):
    """Where the tracks come from."""

    root: str
    train_csv: str | None
    validation_csv: str | None
    test_csv: str | None
    stems: Annotated[list[str], Field(min_length=2)]
    valid_share: Share

    @model_validator(mode="after")
    def _consistent(self) -> "Corpus":
        if len(set(self.stems)) < len(self.stems) or "mixture" in self.stems:
            raise ValueError(f"stems={self.stems} must be distinct and not contain mixture")
        if self.train_csv is None and (self.validation_csv or self.test_csv):
            raise ValueError("train_csv=null, but validation_csv or test_csv is set")
        return self


class Starter(Section):
    """The generated smoke corpus."""

    seed: Annotated[int, Field(ge=0)]
    train_songs: Annotated[int, Field(ge=2)]
    train_duration_s: Positive
    test_songs: Annotated[int, Field(ge=0)]
    test_duration_s: Annotated[float, Field(gt=0.0, le=15.0)]


class Decode(Section):
    """How stems become WAV files."""

    subtype: Subtype
    strict: bool


class Validity(Section):
    """Limits of features.validity.Thresholds."""

    min_duration_s: Positive
    max_residual_db: float
    silence_db: float
    max_clipped_ratio: Annotated[float, Field(ge=0.0, le=1.0)]


class Features(Section):
    """What features are."""

    frame_length_samples: Count
    frame_step_samples: Count
    bins: Count
    block_frames: Count
    encoding: Encoding
    mixture_phase: PhaseEncoding | None
    shards: Count
    max_failed_tracks_ratio: Annotated[float, Field(ge=0.0, le=1.0)]
    validity: Validity

    @model_validator(mode="after")
    def _consistent(self) -> "Features":
        length, step = self.frame_length_samples, self.frame_step_samples
        if length % step or length // step < 3:
            raise ValueError(
                f"frame_step_samples={step} must divide frame_length_samples={length} "
                "at least three times"
            )
        if self.bins > length // 2 + 1:
            raise ValueError(f"bins={self.bins} is more than the {length // 2 + 1} of the STFT")
        return self


class Train(Section):
    """The net and the training run."""

    frames: Count
    width: Count
    depth: Annotated[int, Field(ge=2)]
    norm: Literal["affine", "batch"]
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    encoder_activation: Literal["elu", "relu", "leaky_relu"]
    decoder_activation: Literal["elu", "relu", "leaky_relu"]
    sampling: Literal["windows", "songs"]
    batch_size: Count
    steps: Count
    learning_rate: Positive
    seed: Annotated[int, Field(ge=0)]
    log_every_steps: Count
    validate_every_steps: Count
    validation_windows: Count
    checkpoint_every_steps: Count


class Separate(Section):
    """How estimates are written."""

    subtype: Subtype


class Evaluate(Section):
    """Frames of BSSEval."""

    window_s: Positive
    hop_s: Positive


class Export(Section):
    """Bounds of parity: rms of the difference over rms of Keras' output."""

    max_difference_saved_model: Positive
    max_difference_tflite_float32: Positive
    max_difference_tflite_float16: Positive


class Params(Section):
    """The whole of params.yaml."""

    corpus: Corpus
    starter: Starter
    decode: Decode
    features: Features
    train: Train
    separate: Separate
    evaluate: Evaluate
    export: Export

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        unit = 2**self.train.depth
        for name, value in (
            ("train.frames", self.train.frames),
            ("features.bins", self.features.bins),
        ):
            if value % unit:
                raise ValueError(f"{name}={value} is not a multiple of 2 ** train.depth = {unit}")
        return self


def read_params(path: Path = PARAMS) -> Params:
    """Reads and checks params.yaml.

    Raises:
        UserError: it is missing, not YAML, or a key is unknown, missing or of a wrong value.
    """
    try:
        data: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: run this in the checkout") from None
    except YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(map(_explain, error.errors()))}") from None


def _explain(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"{where}: unknown key"
    if kind == "missing":
        return f"{where}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}={problem['input']!r}: {message}"


if __name__ == "__main__":
    raise SystemExit(run_main(read_params))
