"""What `stemforge live` chooses, by hand; the losses are those of docs/live/sound.json."""

import json
from collections.abc import Mapping

import pytest

from benchmarks import live as benchmark
from stemforge.errors import UserError
from stemforge.eval.separation.live import Window
from stemforge.pipelines.live import planning
from stemforge.pipelines.live.planning import Delays, Setting, Times, Wishes, choose
from stemforge.train.model_files import Interface
from tests.conftest import RATE_HZ, ROOT

INTERFACE = Interface(("vocals", "drums"), 512, 1024, 4096, 1024, RATE_HZ)
DELAYS = Delays(INTERFACE, RATE_HZ)
STEP_S = 1024 / RATE_HZ
# Frames, hop, lookahead, loss. At 44.1 kHz they wait 4095 + (hop - 1 + lookahead) * 1024 samples.
SETTINGS = [
    Setting(Window(64, 4, 0), 0.9),  # 163 ms
    Setting(Window(64, 8, 4), 0.6),  # 348 ms
    Setting(Window(128, 8, 4), 0.5),  # 348 ms
    Setting(Window(128, 16, 4), 0.48),  # 534 ms
]


def times(seconds: Mapping[int, float], device_s: float = 0.0) -> Times:
    return Times(DELAYS, seconds, device_s)


def test_how_long_windows_wait() -> None:
    window = Window(128, 8, 4)
    assert DELAYS.engine_s(window) == pytest.approx((4095 + 11 * 1024) / RATE_HZ)
    assert DELAYS.hop_s(window) == pytest.approx(8 * STEP_S)
    found = times({128: 0.04}, device_s=0.02)
    assert found.load(window) == pytest.approx(0.04 / (8 * STEP_S))
    # One block to hear, half as much again as usual to compute, and the devices' own.
    expected = DELAYS.engine_s(window) + 1.5 * 0.04 + 0.02 + 0.02
    assert found.latency_s(window, Wishes(1.0)) == pytest.approx(expected)
    assert found.latency_s(window, Wishes(1.0, reserve_s=0.3)) == pytest.approx(
        DELAYS.engine_s(window) + 0.3 + 0.02
    )


@pytest.mark.parametrize(
    ("latency_s", "seconds", "chosen"),
    [
        (0.5, {64: 0.02, 128: 0.04}, 2),  # the best that fits
        (0.8, {64: 0.02, 128: 0.04}, 3),  # 0.02 dB better nobody hears, but half the load
        (0.8, {64: 0.02, 128: 0.15}, 3),  # hop 8 lasts 186 ms: 128 frames are too much for it
        (0.4, {64: 0.02, 128: 0.04}, 1),  # 348 + 1.5 * 40 ms is too late
        (0.2, {64: 0.02, 128: 0.04}, 0),
    ],
)
def test_what_sounds_best_of_what_fits(
    latency_s: float, seconds: dict[int, float], chosen: int
) -> None:
    assert choose(SETTINGS, times(seconds), Wishes(latency_s)) is SETTINGS[chosen]


def test_what_a_machine_cannot_hold_is_one_line() -> None:
    with pytest.raises(
        UserError,
        match=r"^--latency-ms 150: 193 ms is the least here, where the nets take 20 ms for 64 "
        r"frames, every 93 ms: raise it, or name fewer --stems with --mask direct$",
    ):
        choose(SETTINGS, times({64: 0.02, 128: 0.04}), Wishes(0.15))
    with pytest.raises(
        UserError,
        match=r"^this machine is too slow: the nets take 230 ms for 128 frames, every 372 ms: name "
        r"fewer --stems with --mask direct$",
    ):
        choose(SETTINGS, times({64: 0.15, 128: 0.23}, device_s=0.02), Wishes(0.5))


def test_a_chosen_window_has_its_limits() -> None:
    window = Window(128, 8, 4)
    planning.check(window, times({128: 0.15}), Wishes(0.1, window))
    with pytest.raises(
        UserError,
        match=r"^--hop 8: the nets take 170 ms for 128 frames, every 186 ms: raise --hop, lower",
    ):
        planning.check(window, times({128: 0.17}), Wishes(0.1, window))
    with pytest.raises(
        UserError,
        match=r"^--reserve-ms 50: less than the 60 ms that the nets and a block of the devices",
    ):
        planning.check(window, times({128: 0.04}, 0.02), Wishes(0.1, window, reserve_s=0.05))


@pytest.mark.parametrize(
    ("nets", "cores", "counts"), [(2, 2, []), (1, 2, [2]), (2, 16, [4, 8]), (4, 2, []), (3, 8, [2])]
)
def test_threads_of_a_net(nets: int, cores: int, counts: list[int]) -> None:
    assert planning.thread_counts(nets, cores) == counts


def test_losses_are_the_measured_ones() -> None:
    path = ROOT / "docs" / "live" / "sound.json"
    measured = benchmark.losses(json.loads(path.read_text(encoding="utf-8")))
    chosen = {
        benchmark.setting_of(benchmark.FLOAT32, w.frames, w.hop, w.lookahead): setting.loss_db
        for setting in planning.SETTINGS
        for w in [setting.window]
    }
    float32 = {name: loss for name, loss in measured.items() if name.startswith(benchmark.FLOAT32)}
    assert chosen == {name: round(loss, 2) for name, loss in float32.items()}
