"""Between callback and engine: what is late fades, and nothing else changes a sample."""

from itertools import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.live_clock import simulate as simulate_clock
from stemforge.pipelines.live.exchange import FADE_SAMPLES, Exchange
from tests.conftest import RATE_HZ


def tone(samples: int, start: int = 0) -> np.ndarray:
    """Sines of 100 and 130 samples' period; neighbours differ by 0.063 at most."""
    t = np.arange(start, start + samples)
    return np.sin(2 * np.pi * t[:, None] / [100, 130]).astype(np.float32)


def exchange_of(*stems: str, reserve: int = 2000, capacity: int = 10_000) -> Exchange:
    return Exchange(stems or ("a",), channels=2, reserve=reserve, capacity=capacity)


def simulate(
    exchange: Exchange, sound: np.ndarray, blocks: list[int], late_by: list[int]
) -> np.ndarray:
    """Plays the sound; the engine passes it on once every so many blocks."""
    out, position, turn, due = [], 0, 0, 0
    number = 0
    while position < len(sound):
        size = min(blocks[number % len(blocks)], len(sound) - position)
        exchange.heard(sound[position : position + size])
        if number >= due:
            start, taken = exchange.take()
            exchange.give(start, dict.fromkeys(exchange._stems, taken))
            due = number + 1 + late_by[turn % len(late_by)]
            turn += 1
        out.append(exchange.played(size))
        assert out[-1].shape == (size, 2)
        position += size
        number += 1
    return np.concatenate(out)


SIZES = st.lists(st.integers(1, 700), min_size=1, max_size=8)


@settings(deadline=None, max_examples=30)
@given(blocks=SIZES, late_by=st.lists(st.integers(0, 1), min_size=1, max_size=5))
def test_in_time_it_is_the_same_sound_one_reserve_later(
    blocks: list[int], late_by: list[int]
) -> None:
    exchange = exchange_of()
    sound = tone(5000)
    found = simulate(exchange, sound, blocks, late_by)
    late = np.concatenate([np.zeros((2000, 2)), sound])[:5000]
    np.testing.assert_array_equal(found[2000 + FADE_SAMPLES :], late[2000 + FADE_SAMPLES :])
    assert (exchange.late, exchange.lost) == (0, 0)


@settings(deadline=None, max_examples=40)
@given(blocks=SIZES, late_by=st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_no_click_however_late_the_engine_is(blocks: list[int], late_by: list[int]) -> None:
    exchange = exchange_of()
    sound = tone(10_000)
    found = simulate(exchange, sound, blocks, late_by)
    # The tone's own steps, and a little for what fades beside it.
    assert np.abs(np.diff(found, axis=0)).max() < 0.063 + 4 / FADE_SAMPLES
    late = np.concatenate([np.zeros((2000, 2)), sound])[:10_000]
    if exchange.late == 0:
        np.testing.assert_array_equal(found[2256:], late[2256:])


def test_late_blocks_are_counted_and_do_not_shift_what_follows() -> None:
    exchange = exchange_of(reserve=1000)
    sound = tone(10_000)
    out = []
    for position in range(0, 10_000, 500):
        exchange.heard(sound[position : position + 500])
        if not 3000 <= position < 5000:  # then the engine does nothing for four blocks
            start, taken = exchange.take()
            exchange.give(start, {"a": taken})
        out.append(exchange.played(500))
    found = np.concatenate(out)
    # At 3000 and 3500 the reserve is played; at 4000 and 4500 there is nothing.
    assert (exchange.late, exchange.lost) == (2, 0)
    late = np.concatenate([np.zeros((1000, 2)), sound])
    np.testing.assert_array_equal(found[1256:4000], late[1256:4000])
    np.testing.assert_array_equal(found[4256:5000], 0.0)
    np.testing.assert_array_equal(found[5256:], late[5256:10_000])
    assert 0 < np.abs(found[4000:4256]).max() <= 1.0


def test_sound_that_nobody_takes_is_lost_and_counted() -> None:
    exchange = exchange_of(reserve=100, capacity=1000)
    sound = tone(6000)
    out = []
    for position in range(0, 6000, 200):
        exchange.heard(sound[position : position + 200])
        if not 1000 <= position < 3000:
            start, taken = exchange.take()
            exchange.give(start, {"a": taken})
        out.append(exchange.played(200))
    found = np.concatenate(out)
    assert exchange.lost == 2200  # all that came from 1000 to 3200, which was too much
    late = np.concatenate([np.zeros((100, 2)), sound])
    np.testing.assert_array_equal(found[3800:], late[3800:6000])
    assert np.abs(np.diff(found, axis=0)).max() < 0.063 + 4 / FADE_SAMPLES


def test_gains_change_without_a_click() -> None:
    exchange = exchange_of("a", "b")
    exchange.set_gains({"a": 1.0})
    ones, out = np.ones((500, 2), np.float32), []
    for number in range(20):
        if number == 10:
            exchange.set_gains({"a": 0.5, "b": 2.0})
        exchange.heard(ones)
        start, taken = exchange.take()
        exchange.give(start, {"a": taken, "b": 3 * taken})
        out.append(exchange.played(500))
    found = np.concatenate(out)[:, 0]
    np.testing.assert_array_equal(found[2256:5000], 1.0)
    np.testing.assert_allclose(found[5256:], 0.5 + 6.0, rtol=1e-6)
    assert np.abs(np.diff(found[2256:])).max() <= 5.5 / FADE_SAMPLES + 1e-5


def test_what_is_not_finite_is_silence() -> None:
    exchange = exchange_of()
    exchange.heard(np.array([[np.nan, 1.0], [np.inf, -1.0]], np.float32))
    np.testing.assert_array_equal(exchange.take()[1], [[0.0, 1.0], [0.0, -1.0]])


def test_peaks_are_of_what_is_there() -> None:
    """With gains; and of no sound that the engine has not made yet."""
    exchange = exchange_of("a", "b", reserve=0, capacity=1000)
    exchange.set_gains({"a": 0.5, "b": 2.0})
    for level in (0.8, 0.0):
        for _ in range(5):
            exchange.heard(np.zeros((200, 2), np.float32))
            start, taken = exchange.take()
            exchange.give(start, {"a": taken + level, "b": taken - level / 2})
        found = exchange.peaks(200)
        assert found == pytest.approx({"a": 0.5 * level, "b": level})
    exchange.heard(np.zeros((200, 2), np.float32))  # not made yet: there the ring has old sound
    assert exchange.peaks(200) == {"a": 0.0, "b": 0.0}


def test_an_hour_with_nets_that_are_slow_at_times() -> None:
    """A simulated clock: what is late is counted, and an hour later sound is still in its place.

    A hop lasts 4 blocks and takes 1.2 of them to compute. Every 300th takes 20, as on a machine
    that does something else, and uses up the reserve of 9.8 blocks: if it begins after block k,
    blocks from k + 9 on are late. At k + 20 it gives block k, and the four hops that came meanwhile
    take 4.8 more: up to k + 24 all are late, and the next is not.
    """
    size, period, delay, reserve = 2048, 128, 10_000, 20_000
    hour = 3600 * RATE_HZ // size
    sine = np.sin(2 * np.pi / period * np.arange(-period, size))[:, None].astype(np.float32)
    sound = sine[period:]  # every block is the same
    exchange = Exchange(["a"], channels=1, reserve=reserve, capacity=4 * RATE_HZ)
    line = np.zeros((delay, 1), np.float32)  # the engine delays, and does nothing else
    blocks = 0

    def push(taken: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
        nonlocal line, blocks
        line = np.concatenate([line, taken])
        found, line = line[: len(taken)], line[len(taken) :]
        before, blocks = blocks, blocks + len(taken) // size
        hops = range(before // 4 + 1, blocks // 4 + 1)
        seconds = sum(20.0 if hop % 300 == 0 else 1.2 for hop in hops) * size / RATE_HZ
        return {"a": found}, seconds

    late = -(reserve + delay) % period
    expected = sine[late : late + size]
    last, wrong = 0.0, 0
    for number, out in enumerate(simulate_clock(exchange, repeat(sound), push, blocks=hour)):
        assert abs(out[0, 0] - last) < 0.1  # the sine's own steps are 0.05
        assert np.abs(np.diff(out[:, 0])).max() < 0.1
        last = out[-1, 0]
        if number * size >= reserve + delay + FADE_SAMPLES:
            wrong += np.abs(out - expected).max() > 1e-5
    slow = hour // 4 // 300
    assert slow == 64
    assert (exchange.late, exchange.lost, exchange.broken) == (16 * slow, 0, 0)
    assert wrong == 17 * slow  # and one that fades in


def test_waiting_ends_with_sound_or_with_time() -> None:
    exchange = exchange_of()
    assert not exchange.wait(0.01)
    exchange.heard(tone(10))
    assert exchange.wait(5.0)


@pytest.mark.parametrize("reserve", [0, 1, 64])
def test_any_reserve(reserve: int) -> None:
    exchange = exchange_of(reserve=reserve)
    sound = tone(3000)
    found = simulate(exchange, sound, [64], [0])
    late = np.concatenate([np.zeros((reserve, 2)), sound])[:3000]
    np.testing.assert_array_equal(found[reserve + 256 :], late[reserve + 256 :])
