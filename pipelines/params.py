"""The only reader of params.yaml: strict, typed, without defaults."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from stemforge.errors import UserError
from stemforge.eval.config import Average, NanPolicy, Undetermined
from stemforge.features.audio.formats import Subtype
from stemforge.features.corpus.copy_config import CopyConfig
from stemforge.features.corpus.sources import JOINT, check_stem_names, parts_of
from stemforge.features.shards.encoding import Encoding, PhaseEncoding
from stemforge.features.signal.framing import Framing
from stemforge.pipelines.console import run_main
from stemforge.pipelines.releases.files import NAME, VERSION
from stemforge.pipelines.releases.git import head_commit
from stemforge.pipelines.sections import CheckedSection, Count, Positive, Section, Share
from stemforge.pipelines.train_section import NET, Train
from stemforge.text import brief, decode_text, show
from stemforge.train.config import FFT_LENGTHS
from stemforge.train.presets import preset_values

PARAMS = Path("params.yaml")
BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
MOST_BRACKETS = 100  # params.yaml opens two at once


class Corpus(Section):
    """Where the tracks come from."""

    root: str
    train_csv: str | None
    validation_csv: str | None
    test_csv: str | None
    stems: Annotated[list[str], Field(min_length=2)]
    mapping: dict[str, list[str]] | None
    test_share: Share | None
    valid_share: Share

    @model_validator(mode="after")
    def _consistent(self) -> "Corpus":
        try:
            check_stem_names(self.stems)
        except UserError as error:
            raise ValueError(f"corpus.stems: {error}") from None
        try:
            parts_of(self.stems, self.mapping)
        except UserError as error:
            raise ValueError(f"corpus.mapping: {error}") from None
        if self.train_csv is not None and self.test_share is not None:
            raise ValueError(
                f"test_share={self.test_share}, but train_csv is set, and test_csv says what is "
                "tested: set test_share to null"
            )
        if self.train_csv is None and (self.validation_csv or self.test_csv):
            raise ValueError("train_csv=null, but validation_csv or test_csv is set: set train_csv")
        return self


class Starter(Section):
    """The generated smoke corpus."""

    seed: Annotated[int, Field(ge=0)]
    train_songs: Annotated[int, Field(ge=2)]
    train_duration_s: Positive
    test_songs: Annotated[int, Field(ge=0)]
    test_duration_s: Annotated[float, Field(gt=0.0, le=15.0)]


class Decode(Section):
    """How stems are written as WAV files."""

    subtype: Subtype
    strict: bool


class Copies(CheckedSection):
    """The values of features.corpus.copies.CopyConfig."""

    per_song: int
    pitch_semitones: Annotated[list[float], Field(min_length=2, max_length=2)]
    tempo: Annotated[list[float], Field(min_length=2, max_length=2)]
    seed: Annotated[int, Field(ge=0)]

    def read(self) -> CopyConfig:
        """As the copies' stage takes it."""
        (low, high), (slow, fast) = self.pitch_semitones, self.tempo
        return CopyConfig(self.per_song, (low, high), (slow, fast), self.seed)


class Validity(Section):
    """The values of features.shards.validity.Thresholds."""

    min_duration_s: Positive
    max_residual_db: float
    silence_db: float
    max_clipped_ratio: Annotated[float, Field(ge=0.0, le=1.0)]


class Features(Section):
    """The parameters of the features."""

    frame_length_samples: Count
    frame_step_samples: Count
    bins: Count
    block_frames: Count
    encoding: Encoding
    mixture_phase: PhaseEncoding | None
    shards: Count | None
    max_failed_tracks_ratio: Annotated[float, Field(ge=0.0, le=1.0)]
    validity: Validity

    @model_validator(mode="after")
    def _consistent(self) -> "Features":
        try:
            Framing(self.frame_length_samples, self.frame_step_samples).check(self.bins)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self


class Monitor(Section):
    """What is written during training, apart from the model."""

    checkpoint_every_steps: Count
    keep_best: Count
    export_every_steps: Count | None
    tensorboard: bool
    histograms: bool
    images: bool
    audio: bool
    windows: Count
    dvclive: bool

    @model_validator(mode="after")
    def _consistent(self) -> "Monitor":
        for name in ("histograms", "images", "audio"):
            if getattr(self, name) and not self.tensorboard:
                raise ValueError(
                    f"{name}=true with tensorboard=false: TensorBoard shows them: set "
                    f"tensorboard=true or {name}=false"
                )
        return self


class Separate(Section):
    """How estimates are written."""

    subtype: Subtype


class Evaluate(Section):
    """How test tracks are scored."""

    window_s: Positive
    hop_s: Positive
    nan_policy: NanPolicy
    accompaniment: bool
    undetermined: Undetermined
    strict: bool


class Leaderboard(Section):
    """How scores are combined into tables."""

    frames: Average
    tracks: Average
    baseline: str
    confidence: Share
    resamples: Count
    seed: Annotated[int, Field(ge=0)]
    context: Literal["sisec18"] | None


class Report(Section):
    """What the report's page plays."""

    audio: Literal["none", "excerpts"]
    seconds: Annotated[float, Field(ge=1.0, le=30.0)]
    bitrate: Annotated[str, Field(pattern=r"^[1-9]\d*k$")]


class Export(Section):
    """Bounds of parity: rms of the difference over rms of Keras' output."""

    frames: Annotated[list[Count], Field(min_length=1)]
    max_difference_saved_model: Positive
    max_difference_tflite_float32: Positive
    max_difference_tflite_float16: Positive
    max_difference_tflite_int8_weights: Positive
    max_difference_segment: Positive
    max_difference_tflite_int8_mixed: Positive
    max_sdr_loss_db: Positive
    max_sdr_loss_int8_mixed_db: Positive


class Release(Section):
    """Name, version and terms of the release."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    version: Annotated[str, Field(pattern=f"^{VERSION}$")]
    license: Literal["CC0-1.0", "CC-BY-4.0", "CC-BY-NC-SA-4.0", "MIT"]
    authors: Annotated[list[str], Field(min_length=1)]
    corpus_license: str
    intended_use: str


class Params(Section):
    """The whole of params.yaml."""

    corpus: Corpus
    starter: Starter
    decode: Decode
    copies: Copies
    features: Features
    models: Annotated[list[str], Field(min_length=1)]
    train: Train
    monitor: Monitor
    separate: Separate
    evaluate: Evaluate
    leaderboard: Leaderboard
    report: Report
    export: Export
    release: Release

    @model_validator(mode="before")
    @classmethod
    def _give_bins_to_the_net(cls, data: Any) -> Any:
        """Sets the net's bins to features.bins, also where a preset has the rest of it."""
        try:
            bins, train = data["features"]["bins"], {**data["train"]}
            if train.get("preset") is not None and train.get("net") is None:
                train["net"] = {}
            net = dict(train["net"])
        except (KeyError, TypeError, ValueError):
            return data  # the sections' own checks name what is missing
        if "bins" in net:
            raise ValueError(f"{NET}.bins: unknown key: set features.bins")
        return {**data, "train": {**train, "net": {**net, "bins": bins}}}

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        try:
            for frames in self.export.frames:
                self.train.net.resized(frames=frames)
        except UserError as error:
            raise ValueError(f"export.{error}") from None
        self.check_models()
        self._check_window()
        stored = self.train.input == "features"
        if self.monitor.audio and stored and self.features.mixture_phase is None:
            raise ValueError(
                "monitor.audio=true with features.mixture_phase=null: audio needs phases: set "
                "features.mixture_phase=int8 or train.input=waveforms"
            )
        return self

    def _check_window(self) -> None:
        """Refuses windows that are too short for a loss of waveforms."""
        features, frames = self.features, self.train.net.frames
        framing = Framing(features.frame_length_samples, features.frame_step_samples)
        leasts = {"si_sdr": framing.step_samples, "multi_resolution_stft": FFT_LENGTHS[-1]}
        for name in self.train.loss:
            if framing.inside(frames) < (least := leasts.get(name, 0)):
                raise ValueError(
                    f"train.net.frames={frames}: train.loss={name} compares the samples that "
                    f"all overlapping frames cover: at least {least}, not "
                    f"{framing.inside(frames)}: raise train.net.frames"
                )

    @property
    def estimated_stems(self) -> list[str]:
        """The stems that the models estimate, in the order of corpus.stems."""
        return self.corpus.stems if self.models == [JOINT] else self.models

    def require_usable_models(self) -> None:
        """Refuses models of some stems: ratio masks divide the whole mixture among the models.

        A single model has a mask of its own.

        Raises:
            UserError: there are two models or more, and a stem of the corpus has none.
        """
        missing = [stem for stem in self.corpus.stems if stem not in self.estimated_stems]
        if missing and len(self.models) > 1:
            raise UserError(
                f"models={self.models}: no model of {', '.join(missing)}, and masks divide the "
                "mixture among all stems: add them to models, name one stem alone, or take them "
                "out of corpus.stems"
            )

    def check_models(self) -> None:
        """Refuses models that do not fit the net and the corpus' stems.

        Raises:
            ValueError: they do not fit.
        """
        stems, weights = self.corpus.stems, self.train.stem_weights
        if self.models == [JOINT]:
            if weights and weights.keys() != set(stems):
                raise ValueError(
                    f"train.stem_weights: names {', '.join(weights)}: must name all of "
                    f"corpus.stems: {', '.join(stems)}"
                )
            return
        if weights:
            raise ValueError(
                f"train.stem_weights with models={self.models}: they weight the stems of a "
                f"joint model: set models=[{JOINT}] or train.stem_weights=null"
            )
        if self.train.net.needs_joint:
            raise ValueError(
                f"models={self.models}: with this train.net the stems depend on each "
                f"other, so they must be one model: [{JOINT}]"
            )
        if self.models != [stem for stem in stems if stem in self.models]:
            raise ValueError(
                f"models={self.models}: must be stems of corpus.stems, each once and in their "
                f"order: [{', '.join(stems)}]; or one model of all stems, [{JOINT}]"
            )


def read_params(path: Path = PARAMS) -> Params:
    """Reads and checks params.yaml.

    Raises:
        UserError: it is missing or not YAML, a key is unknown or missing, or a value is wrong.
    """
    try:
        text = decode_text(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: run this in the checkout") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    # The reader of YAML takes minutes for some thousand brackets that are open at once.
    depths = itertools.accumulate(BRACKETS.get(character, 0) for character in text)
    if max(depths, default=0) > MOST_BRACKETS:
        raise UserError(f"{path}: not YAML that can be read: nested too deeply")
    try:
        data: Any = YAML(typ="safe").load(text)
    except Exception as error:  # YAMLError, and whatever a value raises that does not fit its tag
        raise UserError(f"{path}: not YAML: {brief(error)}") from None
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        why = brief("; ".join(_explain_all(error.errors())), most=1500)
        raise UserError(f"{path}: {why}") from None


def _explain_all(problems: Sequence[Any]) -> list[str]:
    """Each problem in a sentence, without those that a wrong preset brings with it."""
    preset = ("train", "preset")
    if any(problem["loc"] == preset for problem in problems):
        problems = [p for p in problems if p["loc"] == preset or p["loc"][:1] != preset[:1]]
        return [*map(_explain, problems)]
    texts = [*map(_explain, problems)]
    values = preset_values("spleeter", optimizer="adam")
    keys = [f"train.{key}" for key in values] + [f"{NET}.{key}" for key in values["net"]]
    if any(text.startswith(f"{key}=None: ") for text in texts for key in keys):
        texts.append("set these, or train.preset, which sets them")
    return texts


def _explain(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"{where}: unknown key"
    if kind == "missing":
        return f"{where}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        named = message.startswith((where, "features.", "export."))
        return message if named else f"{where}: {message}"
    return f"{where}={show(problem['input'])}: {message}"


def check_checkout() -> None:
    """What `make repro` checks before hours of work: params.yaml, and the release's commit."""
    read_params()
    head_commit()


if __name__ == "__main__":
    raise SystemExit(run_main(check_checkout))
