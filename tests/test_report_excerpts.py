"""Which parts of a song the report plays, and its outline, by hand."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stemforge.eval.report.excerpts import Excerpt, choose_excerpts, outline

RATE_HZ = 10


def choose(
    sdr_db: list[float], *, seconds: float = 3.0, samples: int | None = None
) -> list[Excerpt]:
    return choose_excerpts(
        sdr_db,
        hop_s=1.0,
        window_s=1.0,
        samples=len(sdr_db) * RATE_HZ if samples is None else samples,
        sample_rate_hz=RATE_HZ,
        seconds=seconds,
    )


def test_median_best_and_worst_by_hand() -> None:
    # The median of the twelve is 5.5; frame 2 (5.0) is as near as frame 9 (6.0), and comes first.
    sdr = [5.4, 3.0, 5.0, 8.0, 9.0, 4.0, 1.0, 2.0, 7.0, 6.0, 10.0, 5.6]
    found = {e.kind: (e.start, e.end) for e in choose(sdr)}
    # Median 5.5: frame 0 is 0.1 off, and its excerpt is moved to the start; so is frame 11, later.
    # Best 10.0: frame 10, from 9 to 12 s. Worst 1.0: frame 6, from 5 to 8 s.
    assert found == {"median": (0, 30), "best": (90, 120), "worst": (50, 80)}


def test_what_overlaps_is_passed_over() -> None:
    # Best and worst are neighbours: the worst that is apart from the best and the median is taken.
    sdr = [5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 9.0, 1.0, 5.0, 5.0, 5.0, 3.0]
    found = {e.kind: (e.start, e.end) for e in choose(sdr)}
    assert found == {"median": (0, 30), "best": (50, 80), "worst": (90, 120)}


def test_short_songs_are_whole_and_songs_without_scores_are_their_middle() -> None:
    assert choose([1.0, 2.0], samples=90) == [Excerpt("whole", 0, 90)]
    assert choose([1.0, 2.0], samples=91)[0].kind == "median"
    assert choose([], samples=200) == [Excerpt("median", 85, 115)]
    assert choose([math.nan] * 20, samples=200) == [Excerpt("median", 85, 115)]


@given(st.lists(st.floats(-20, 20) | st.just(math.nan), max_size=40), st.integers(1, 500))
def test_excerpts_lie_within_the_song_and_apart(sdr_db: list[float], samples: int) -> None:
    found = choose(sdr_db, samples=samples)
    assert 1 <= len(found) <= 3
    assert found[0].start >= 0
    assert found[-1].end <= samples
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert len({e.kind for e in found}) == len(found)


def test_best_is_above_the_median_and_worst_below() -> None:
    # 9 is as near to the median 5 as 1, and comes first. Nothing else is above it.
    sdr = [9.0, *[math.nan] * 10, 1.0]
    assert [(e.kind, e.start) for e in choose(sdr)] == [("median", 0), ("worst", 90)]
    assert [e.kind for e in choose([4.0] * 12)] == ["median"]


def test_outline_by_hand() -> None:
    values = [[0.1, -0.2], [0.0, 0.0], [-0.5, 0.3], [0.004, 0.0], [1.5, 0.0]]
    waveform = np.array(values, np.float32)
    # Columns begin at the samples 0, 2 and 4: ceil(5 / 3), ceil(10 / 3).
    assert outline(waveform, columns=3) == [20, 50, 100]
    assert outline(waveform, columns=9) == [20, 0, 50, 0, 100]
