from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.sampler import Sampler, Sampling, Window, permute


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
