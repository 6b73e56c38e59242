from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from stemforge.train.sampler import Sampler, Sampling, Window, permute


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    step = max(1, size // 200)
    images = [permute(position, size, key=key) for position in range(0, size, step)]
    assert len(set(images)) == len(images)
    assert all(0 <= image < size for image in images)


def test_permute_covers_everything_and_depends_on_the_key() -> None:
    orders = [[permute(i, 1000, key=key) for i in range(1000)] for key in range(3)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    # Neighbours scatter: the mean distance of random pairs of range(n) is n / 3.
    distance = sum(abs(a - b) for a, b in zip(orders[0], orders[0][1:], strict=False)) / 999
    assert 280 < distance < 390


def sampler(sampling: Sampling, seed: int = 3) -> Sampler:
    # Song b has two runs; song d is shorter than a window.
    return Sampler(
        ["a", "b", "b", "c", "d"],
        [10, 12, 11, 25, 9],
        window_frames=10,
        sampling=sampling,
        seed=seed,
    )


def test_an_epoch_draws_every_window_once() -> None:
    drawn = sampler("windows")
    assert drawn.windows == 1 + 3 + 2 + 16
    expected = {Window(0, 0)} | {Window(1, s) for s in range(3)} | {Window(2, s) for s in range(2)}
    expected |= {Window(3, s) for s in range(16)}
    for epoch in range(3):
        windows = [drawn.draw(epoch * 22 + k) for k in range(22)]
        assert set(windows) == expected
        assert len(windows) == 22


def test_songs_are_drawn_equally_and_their_windows_too() -> None:
    drawn = sampler("songs")
    windows = [drawn.draw(k) for k in range(3 * 5 * 16)]
    songs = Counter("abbcd"[w.run] for w in windows)
    assert songs == {"a": 80, "b": 80, "c": 80}
    assert set(Counter(w for w in windows if w.run in (1, 2)).values()) == {16}
    assert set(Counter(w for w in windows if w.run == 3).values()) == {5}


def test_a_step_does_not_depend_on_those_before() -> None:
    late = sampler("windows").batch(100_000, 4)
    other = sampler("windows")
    for step in range(5):
        other.batch(step, 4)
    assert other.batch(100_000, 4) == late
    assert sampler("windows", seed=4).batch(100_000, 4) != late


def test_no_window_at_all() -> None:
    with pytest.raises(ValueError, match="no run of blocks has 10 frames"):
        Sampler(["a"], [9], window_frames=10, sampling="windows", seed=0)


T = 512
FRAMES = [T - 1, T, T + 1, 2 * T - 1, 3 * T + 100]
WINDOWS = [0, 1, 2, T, 2 * T + 101]


def long_sampler(sampling: Sampling) -> Sampler:
    names = ["a", "b", "c", "d", "e"]
    return Sampler(names, FRAMES, window_frames=T, sampling=sampling, seed=5)


def test_every_possible_window_is_equally_likely() -> None:
    sampler = long_sampler("windows")
    assert sampler.windows == sum(WINDOWS)
    # Not a whole number of epochs, of which each holds every window exactly once.
    drawn = Counter(sampler.draw(k) for k in range(20 * sampler.windows + 700))
    assert set(drawn) == {Window(run, s) for run, n in enumerate(WINDOWS) for s in range(n)}
    assert chisquare(list(drawn.values())).pvalue > 0.01
    # Inside an epoch no part of the corpus comes first: song and place of the first 400 draws.
    early = [sampler.draw(k) for k in range(400)]
    places = Counter((w.run, w.start // 128) for w in early if w.run >= 3)
    cells = {(run, s // 128): 0 for run in (3, 4) for s in range(WINDOWS[run])}
    sizes = Counter((run, s // 128) for run in (3, 4) for s in range(WINDOWS[run]))
    expected = [sum(places.values()) * sizes[cell] / sum(sizes.values()) for cell in cells]
    assert chisquare([places[cell] for cell in cells], expected).pvalue > 0.01


def test_every_song_is_equally_likely() -> None:
    sampler = long_sampler("songs")
    drawn = [sampler.draw(k) for k in range(4 * 3000 + 2)]
    songs = Counter(window.run for window in drawn)
    assert set(songs) == {1, 2, 3, 4}  # song a has no window
    assert chisquare(list(songs.values())).pvalue > 0.01
    for run in (2, 3, 4):  # and in each song every window
        starts = Counter(window.start for window in drawn if window.run == run)
        counts = [starts[start] for start in range(WINDOWS[run])]
        assert chisquare(counts).pvalue > 0.01
