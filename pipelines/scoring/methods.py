"""Makes the estimates that are scored, from files, an oracle, or a model."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import UNPROCESSED
from stemforge.eval.scoring import oracles
from stemforge.eval.scoring.estimates import Estimates, read_estimates
from stemforge.eval.scoring.scores import Remark
from stemforge.features.corpus.sources import mixture_without, targets_of
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.console import say

if TYPE_CHECKING:
    from stemforge.eval.separation.separator import Separator

Waveforms = dict[str, Waveform]


@dataclass(frozen=True)
class TrackTruth:
    """The mixture and true stems that a track's estimates are compared with.

    Attributes:
        mixture: float32 [samples, 2].
        stems: true stems, of the same shape.
        sample_rate_hz: of both.
    """

    mixture: Waveform
    stems: Waveforms
    sample_rate_hz: int


class Method(Protocol):
    """Makes the estimates that are scored."""

    @property
    def key(self) -> str:
        """All that the estimates depend on, besides the truth and `files`."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Places whose contents the estimates depend on."""
        ...

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """Estimates, float32 [samples, 2] by target, and remarks on them."""
        ...


@dataclass(frozen=True)
class FromFolder:
    """Estimates from files.

    Attributes:
        places: of each target's file.
        remarks: those known before the files are read.
    """

    places: Mapping[str, str]
    remarks: tuple[Remark, ...] = ()

    @classmethod
    def of(cls, found: Estimates, track: str) -> "FromFolder":
        """The estimates of one track among those that `find_estimates` found."""
        return cls(found.files[track], found.remarks[track])

    @property
    def key(self) -> str:
        """See Method; the files' places are not part of it."""
        return repr(("folder", [*self.places], self.remarks))

    @property
    def files(self) -> Sequence[str]:
        """The estimates."""
        return [*self.places.values()]

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        with ExitStack() as stack:
            files = {t: stack.enter_context(storage.local_copy(p)) for t, p in self.places.items()}
            estimates, remarks = read_estimates(
                files, samples=len(truth.mixture), sample_rate_hz=truth.sample_rate_hz
            )
        return estimates, [*self.remarks, *remarks]


@dataclass(frozen=True)
class Oracle:
    """One of eval.scoring.oracles.

    Attributes:
        name: its name there.
        rests: targets that are sums of other stems and are scored too. Their estimates are the
            rests of the others' estimates, but the mixture once where nothing is processed.
    """

    name: str
    rests: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """See Method."""
        # Of the second definition of MIX; scores of the first have the key ("oracle", "MIX").
        return repr(("oracle", 2, self.name))

    @property
    def files(self) -> Sequence[str]:
        """None: the estimates are made from the truth."""
        return ()

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        made = oracles.METHODS[self.name](truth.mixture, truth.stems)
        if self.name == UNPROCESSED:
            made |= dict.fromkeys(self.rests, truth.mixture)
        return made, []


@dataclass(frozen=True)
class FromModel:
    """Estimates by a model; they are not stored.

    Attributes:
        separator: uses all cores, and cannot be sent to other processes.
        files: of the models.
        left_out: outputs that are not targets.
    """

    separator: "Separator"
    files: tuple[str, ...]
    left_out: frozenset[str]

    @property
    def key(self) -> str:
        """See Method."""
        return repr(("model", self.targets))

    @property
    def targets(self) -> Sequence[str]:
        """The targets that it estimates."""
        return [stem for stem in self.separator.stems if stem not in self.left_out]

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method."""
        found = self.separator.separate(truth.mixture, sample_rate_hz=truth.sample_rate_hz)
        return {target: found[target] for target in self.targets}, []


@dataclass(frozen=True)
class AgainstRest:
    """A method of one target, with the rest of the mixture: the mixture minus its estimate.

    Attributes:
        method: makes the estimate.
        target: that it estimates.
        rest: name of the rest, see features.corpus.sources.rest_of.
    """

    method: Method
    target: str
    rest: str

    @property
    def key(self) -> str:
        """See Method."""
        return repr(("against_rest", self.method.key, self.target, self.rest))

    @property
    def files(self) -> Sequence[str]:
        """The method's."""
        return self.method.files

    def estimate(self, truth: TrackTruth) -> tuple[Waveforms, list[Remark]]:
        """See Method; neither where the track has no estimate that can be read."""
        estimates, remarks = self.method.estimate(truth)
        if self.target in estimates:
            estimates[self.rest] = mixture_without(self.target, estimates, truth.mixture)
        return estimates, remarks


def load_model(folder: Path, *, stems: Sequence[str], complete: bool = False) -> FromModel:
    """Loads the models of a folder for a command; errors name its options.

    Args:
        folder: a folder of models, a model directory, or a .tflite file.
        stems: of the corpus; other stems of the models are named on the console and not scored.
        complete: whether these are all of the mixture.

    Raises:
        UserError: there is no model, or the models have none of the corpus' stems.
    """
    # Processes that score files do not need it.
    from stemforge.eval.separation.separator import (
        Separator,
        find_models,
        read_interface,
    )
    from stemforge.train.model_files import model_files

    models = find_models(folder)
    known = [stem for model in models for stem in read_interface(model).stems]
    targets = targets_of(stems, complete=complete)
    strange = [stem for stem in known if stem not in targets]
    for stem in strange:
        say(f"score: {stem}: not a stem of the corpus (--stems): not scored")
    if len(strange) == len(known):
        raise UserError(
            f"--model {folder}: its models have none of the corpus' stems: set --stems, or give "
            "another folder"
        )
    files = tuple(str(file) for model in models for file in model_files(model))
    return FromModel(Separator.load(models), files, frozenset(strange))
