"""Whether test songs are MUSDB18's, its excerpts, MUSDB18-HQ, or only some of them."""

import csv
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from stemforge import storage
from stemforge.features.corpus.sources import STEMS

# The training songs that musdb holds out for validation (configs/mus.yaml, validation_tracks).
MUSDB_VALIDATION_TRACKS = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
# musdb's own download: each song cut to 300 032 samples; the files' headers say 299 880.
EXCERPT_S = 300_032 / 44_100
# Decoders of AAC differ by a frame or two of 1024 samples (23 ms each) at a song's end.
TOLERANCE_S = 0.1


@dataclass(frozen=True)
class TestSet:
    """What a corpus' test songs are.

    Attributes:
        name: "MUSDB18", "MUSDB18-HQ" or "MUSDB18-7", of all songs or of some; empty for others.
        statement: for a reader; empty where no song has a name of MUSDB18's.
        is_musdb18: whether this is MUSDB18's test set itself, whose published scores compare with
            ours.
    """

    name: str
    statement: str
    is_musdb18: bool = False


def recognise_test_set(durations_s: Mapping[str, float], *, wavs: bool) -> TestSet:
    """Tells MUSDB18's test set from its excerpts, subsets and MUSDB18-HQ, by names and lengths.

    Args:
        durations_s: length of each test song.
        wavs: whether the songs are folders of WAV files instead of .stem.mp4 files.

    Returns:
        The test set. One song with another name or length makes it another test set.
    """
    table = whole_seconds()
    known = {storage.comparable(name): length for name, length in durations_s.items()}
    songs = len(known.keys() & table.keys())
    if not songs:
        return TestSet("", "")
    if songs < len(known):
        here = f"{songs} of MUSDB18's 50 test songs by name, and {len(known) - songs} more"
        return TestSet("", f"{here}: another test set than MUSDB18's")
    some = "" if songs == len(table) else f"{songs} of "
    if all(abs(length - EXCERPT_S) <= TOLERANCE_S for length in known.values()):
        excerpts = "an excerpt" if songs == 1 else "excerpts"
        statement = f"MUSDB18-7: {excerpts} of {EXCERPT_S:.1f} s of {some}MUSDB18's 50 test songs"
        return TestSet("MUSDB18-7", statement)
    if not all(_is_whole(length, table[song]) for song, length in known.items()):
        but = "another length" if songs == 1 else "other lengths"
        statement = f"{some}MUSDB18's 50 test songs by name, but of {but}: another test set"
        return TestSet("", statement)
    if wavs:
        statement = f"MUSDB18-HQ: {some}its 50 test songs, as WAV files"
        return TestSet("MUSDB18-HQ", statement)
    statement = f"{some}MUSDB18's 50 test songs" if some else "MUSDB18: its 50 test songs"
    return TestSet("MUSDB18", statement, is_musdb18=not some)


def are_wavs(files: Iterable[Iterable[object]]) -> bool:
    """Whether songs are folders of WAV files: .stem.mp4 files hold all sources of a song.

    Args:
        files: of each song, what tells the files of its sources apart: a place, or a checksum.
    """
    return any(len({*song}) > 1 for song in files)


def with_stems(test_set: TestSet, parts: Mapping[str, Sequence[str]]) -> TestSet:
    """The test set as it is scored: with stems of its own, or with others.

    Args:
        test_set: by names and lengths; only MUSDB18 itself is changed, which others compare with.
        parts: what each source is the sum of; see features.corpus.sources.parts_of.
    """
    if not test_set.is_musdb18 or all([*parts.get(stem, ())] == [stem] for stem in STEMS):
        return test_set
    sums = [
        f"{source} = {' + '.join(names)}" for source, names in parts.items() if [*names] != [source]
    ]
    missing = [stem for stem in STEMS if stem not in parts]
    why = ", ".join([*sums, *(f"no {stem}" for stem in missing)])
    statement = f"{test_set.statement}; not with MUSDB18's four stems ({why}): another test set"
    return replace(test_set, statement=statement, is_musdb18=False)


def _is_whole(length_s: float, seconds: int) -> bool:
    """Whether a song has its whole length, of which only the seconds are known."""
    return seconds - TOLERANCE_S <= length_s <= seconds + 1 + TOLERANCE_S


@functools.cache
def whole_seconds() -> Mapping[str, int]:
    """Length of each of MUSDB18's 50 test songs, rounded down to whole seconds.

    From SiSEC 2018's score files (sigsep/sigsep-mus-2018), which hold a frame for each whole second
    of a song. All 31 methods agree on 46 songs. On four songs 20 methods, all oracles among them,
    have one frame less than the other 11, so these songs end close to a whole second. The table
    has the oracles' number, which the true stems gave, and TOLERANCE_S allows for both.
    """
    place = resources.files("stemforge.features.corpus").joinpath("musdb18.csv")
    with place.open(encoding="utf-8") as file:
        return {row["song"]: int(row["whole_seconds"]) for row in csv.DictReader(file)}
