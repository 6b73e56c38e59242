"""Augmentation: what is drawn, and what is done to the stems. No TensorFlow, no files."""

import re
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from stemforge.errors import UserError
from stemforge.features.shards.reading import Run
from stemforge.train.augmentation import Change, Mixer
from stemforge.train.config import Augmentation
from stemforge.train.sampler import Sampler, Sampling, Window

STEMS = ("vocals", "drums", "bass")
ALL = Augmentation((-6.0, 4.0), 0.5, 0.25, 0.4)
# Song b has two runs, and song d no window.
RUNS = [
    Run(name, 0, frames, (), ()) for name, frames in zip("abbcd", (12, 14, 11, 20, 9), strict=True)
]


def sampler(sampling: Sampling = "windows") -> Sampler:
    names, frames = [run.track for run in RUNS], [run.frames for run in RUNS]
    return Sampler(names, frames, window_frames=10, sampling=sampling, seed=3)


def mixer(
    augmentation: Augmentation = ALL, *, seed: int = 1, sampling: Sampling = "windows"
) -> Mixer:
    return Mixer(augmentation, seed, sampler(sampling), RUNS, STEMS, "drums")


def test_a_change_by_hand() -> None:
    waveform = np.array([[0.5, -0.25], [1.0, 0.125]], np.float32)
    assert Change(-2.0, True).apply(waveform).tolist() == [[0.5, -1.0], [-0.25, -2.0]]
    assert Change(0.5, False).apply(waveform).tolist() == [[0.25, -0.125], [0.5, 0.0625]]


def test_takes_depend_on_seed_step_place_and_stem_alone() -> None:
    window = (RUNS[3], 2)
    cells = [*product(range(20), range(4))]
    forwards = {cell: mixer().takes(*cell, window) for cell in cells}
    shared = mixer()
    backwards = {cell: shared.takes(*cell, window) for cell in reversed(cells)}
    assert forwards == backwards
    factors = {
        take.change.factor for takes in forwards.values() for take in takes.values() if take.change
    }
    assert len(factors) == len(cells) * len(STEMS)  # none is drawn twice
    assert mixer(seed=2).takes(0, 0, window) != forwards[0, 0]


def test_values_are_as_likely_as_the_augmentation_says() -> None:
    takes = [mixer().takes(step, place, (RUNS[0], 1)) for step in range(700) for place in range(3)]
    changes = [take.change for window in takes for take in window.values() if take.change]
    gains_db = [20 * np.log10(abs(change.factor)) for change in changes]
    assert kstest(gains_db, "uniform", (-6.0, 10.0)).pvalue > 0.01
    # Four standard errors of a share of n draws.
    for found, wanted in (
        ([change.swapped for change in changes], 0.5),
        ([change.factor < 0 for change in changes], 0.25),
        ([window["vocals"].place != window["drums"].place for window in takes], 0.4),
    ):
        assert np.mean(found) == pytest.approx(wanted, abs=4 * (wanted / len(found)) ** 0.5)
    # A window is remixed as a whole, and the kept stem stays.
    assert all(
        (window["vocals"].place[0].track == "a") == (window["bass"].place[0].track == "a")
        for window in takes
    )
    assert {window["drums"].place for window in takes} == {(RUNS[0], 1)}


@pytest.mark.parametrize("sampling", ["windows", "songs"])
def test_other_songs_are_drawn_as_the_sampling_says(sampling: Sampling) -> None:
    random, drawn = np.random.default_rng(1), sampler(sampling)
    found = [drawn.draw_elsewhere("b", tuple(random.random(2))) for _ in range(4000)]
    # a has 3 windows, c has 11; b has 5 and 2, and d none.
    cells = [Window(0, s) for s in range(3)] + [Window(3, s) for s in range(11)]
    assert set(found) == set(cells)
    weights = [1 / 14] * 14 if sampling == "windows" else [1 / 6] * 3 + [1 / 22] * 11
    counts = [found.count(cell) for cell in cells]
    assert chisquare(counts, [4000 * weight for weight in weights]).pvalue > 0.01
    # The ends of the range of uniform numbers.
    assert drawn.draw_elsewhere("c", (0.0, 0.0)) == Window(0, 0)
    assert drawn.draw_elsewhere("c", (1 - 2**-53, 1 - 2**-53)) == Window(2, 1)


def test_a_corpus_of_one_song_cannot_be_remixed() -> None:
    alone = Sampler(["a"], [12], window_frames=10, sampling="windows", seed=3)
    message = re.escape("train.augmentation.remix=0.4: the train split has one song with a window")
    with pytest.raises(UserError, match=message):
        Mixer(ALL, 1, alone, RUNS, STEMS, "drums").check()
    Mixer(Augmentation((-6.0, 4.0), 0.5, 0.25, 0.0), 1, alone, RUNS, STEMS, "drums").check()
