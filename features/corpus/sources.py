"""The sources of a track: their names, and sums of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
STEMS = (VOCALS, "drums", "bass", "other")  # MUSDB18's, in the order of the tables


def targets_of(stems: Sequence[str]) -> tuple[str, ...]:
    """What is scored: the stems, and last the accompaniment, if there are vocals and other stems.

    Args:
        stems: of the corpus; the accompaniment may be one of them.
    """
    extra = (ACCOMPANIMENT,) if set(stems) > {VOCALS} else ()
    return tuple(dict.fromkeys((*stems, *extra)))


def accompaniment(stems: Mapping[str, "Waveform"]) -> "Waveform":
    """All stems but the vocals, as musdb's target of that name.

    Args:
        stems: float32 [samples, channels] each; at least one besides the vocals.
    """
    others = [waveform for name, waveform in stems.items() if name != VOCALS]
    total = others[0].copy()
    for waveform in others[1:]:
        total += waveform
    return total
