"""The sources of a track: their names, and sums of them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from stemforge import storage
from stemforge.errors import UserError
from stemforge.text import show

if TYPE_CHECKING:
    from stemforge.features.signal.stft import Waveform  # which loads SciPy

STEM_SUFFIX = ".stem.mp4"  # of a MUSDB file with all sources, in upper or lower case
MIXTURE = "mixture"
VOCALS = "vocals"
ACCOMPANIMENT = "accompaniment"  # all stems but the vocals, as in musdb
INSTRUMENTAL = "instrumental"  # the mixture less the estimate of the vocals
# Of files: ours (`separate --instrumental`), and demucs' (`--two-stems vocals`).
NAMES_OF_ACCOMPANIMENT = (ACCOMPANIMENT, INSTRUMENTAL, "no_vocals")
# Order of the streams in a MUSDB .stem.mp4 file (musdb's configs/mus.yaml, stem_ids).
MUSDB_STREAMS = {MIXTURE: 0, "drums": 1, "bass": 2, "other": 3, VOCALS: 4}
PHASE = "mixture_phase"  # in a features folder, the source that holds the mixture's phases
JOINT = "joint"  # name of a model of several stems
RESERVED = (MIXTURE, PHASE, JOINT)
# A stem names files, columns, Keras layers and arguments of a shell: Keras' rule is the narrowest.
STEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
STEMS = (VOCALS, "drums", "bass", "other")  # MUSDB18's, in the order of the tables


def targets_of(stems: Sequence[str], *, complete: bool = False) -> tuple[str, ...]:
    """What is scored: the stems, and last the rest of each, if there are two stems or more.

    Args:
        stems: of the corpus; the accompaniment may be one of them.
        complete: see `rest_of`.
    """
    rests = (rest_of(stem, stems, complete=complete) for stem in stems) if len(stems) > 1 else ()
    return tuple(dict.fromkeys((*stems, *rests)))


def rest_of(target: str, stems: Sequence[str], *, complete: bool = False) -> str:
    """Name of the rest of the mixture, without a target.

    Of two stems that are all of the mixture, the rest of one is the other. Else, for the vocals it
    is musdb's name, and for another stem as demucs' `--two-stems drums` names it.

    Args:
        target: a stem of the corpus, or itself the rest of one: then that stem is the rest.
        stems: of the corpus.
        complete: whether they are all of the mixture. Of two stems, such as drums and no_drums,
            the names can say so too.

    Raises:
        UserError: the target is neither; the message begins with it.
    """
    if target not in stems:
        for stem in stems:
            if rest_of(stem, stems, complete=complete) == target:
                return stem
        raise UserError(
            f"{target}: neither a stem of the corpus nor the rest of one: its stems are "
            f"{', '.join(stems)}"
        )
    if len(stems) == 2:
        other = next(stem for stem in stems if stem != target)
        if complete or _are_a_whole(target, other) or _are_a_whole(other, target):
            return other
    # In a corpus with a stem of this name, that stem is not all the rest.
    return ACCOMPANIMENT if target == VOCALS and ACCOMPANIMENT not in stems else f"no_{target}"


def _are_a_whole(stem: str, rest: str) -> bool:
    """Whether the second name says that it is all but the first."""
    return rest == f"no_{stem}" or (stem == VOCALS and rest in NAMES_OF_ACCOMPANIMENT)


def scored_rest_of(stem: str, stems: Sequence[str], scored: Collection[str]) -> str:
    """Name of the rest of a stem in scores that do not say whether the stems are all of it.

    Args:
        stem: of the corpus.
        stems: of the corpus.
        scored: the targets that have scores.
    """
    rest = rest_of(stem, stems)
    return rest if rest in scored else rest_of(stem, stems, complete=True)


def check_stem_names(names: Iterable[object]) -> None:
    """Refuses names that stems cannot have.

    Raises:
        UserError: a name has other characters than stems may have, is reserved, or comes twice;
            the message begins with it.
    """
    seen = set[str]()
    for name in names:
        if not isinstance(name, str) or not STEM_NAME.fullmatch(name):
            raise UserError(
                f"{show(name)}: not a valid name of a stem: use up to 64 letters (a to z), digits, "
                "- and _, with a letter or digit in front"
            )
        if name in RESERVED:
            raise UserError(
                f"{name}: has another meaning, as {', '.join(RESERVED)} have: rename the stem"
            )
        if name.lower() in seen:  # files of both cases may be one
            raise UserError(f"{name}: two stems have this name: rename one")
        seen.add(name.lower())


def parts_of(
    stems: Sequence[str], mapping: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    """What each source is the sum of, by the names in the corpus; the mixture is first.

    Args:
        stems: names of our stems.
        mapping: names in the corpus by the name of our source; a source that it leaves out is the
            corpus' own of its name.

    Raises:
        UserError: the mapping has a source that is no stem, a source of nothing, or a name twice;
            the message begins with it.
    """
    given = mapping or {}
    sources = (MIXTURE, *stems)
    for source, names in given.items():
        if source not in sources:
            raise UserError(f"{source}: not one of the stems, {', '.join(stems)}")
        if not names or not all(names):
            raise UserError(f"{source}: no name, or an empty one: name what it is the sum of")
    parts = {source: tuple(given.get(source, (source,))) for source in sources}
    taken: dict[str, str] = {}
    for source, names in parts.items():
        for name in names:
            other = taken.get(storage.folded(name))
            if other:
                both = "twice" if other == source else f"and in {other}"
                raise UserError(f"{source}: {name} is in it {both}: keep one")
            taken[storage.folded(name)] = source
    return parts


def mixture_without(
    stem: str, stems: Mapping[str, "Waveform"], mixture: "Waveform | None"
) -> "Waveform":
    """The rest of the mixture, without a stem: the one definition of it.

    Args:
        stem: the one to leave out.
        stems: float32 [samples, channels] each, true or estimated.
        mixture: the same shape, if it holds more than these stems. Then the rest is the mixture
            minus the stem. None: they are all of it, and the rest is their sum without the stem,
            as in musdb.
    """
    if mixture is not None:
        return mixture - stems[stem]
    others = [waveform for name, waveform in stems.items() if name != stem]
    total = others[0].copy()
    for waveform in others[1:]:
        total += waveform
    return total
