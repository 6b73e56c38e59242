"""What `stemforge live` chooses, by hand; the losses are those of docs/live/sound.json."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import live as benchmark
from stemforge.errors import FramesError, UserError
from stemforge.eval.separation.live import Window
from stemforge.pipelines.live import planning
from stemforge.pipelines.live.planning import Delays, Server, Setting, Times, Wishes, choose
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


def times(seconds: Mapping[int, float], *, block_s: float = 0.0, plays: bool = True) -> Times:
    return Times(DELAYS, seconds, Server(latency_s=0.0, block_s=block_s, plays=plays))


def test_how_long_windows_wait() -> None:
    window = Window(128, 8, 4)
    assert DELAYS.engine_s(window) == pytest.approx((4095 + 11 * 1024) / RATE_HZ)
    assert DELAYS.hop_s(window) == pytest.approx(8 * STEP_S)
    found = Times(DELAYS, {128: 0.04}, Server(latency_s=0.1, block_s=0.02, plays=True))
    assert found.load(window) == pytest.approx(0.04 / (8 * STEP_S))
    # One block to hear, twice as long as usual to compute, and the devices' own.
    engine_s = DELAYS.engine_s(window)
    usual, own = Wishes(0.4), Wishes(1.0, reserve_s=0.3)
    assert found.waits(window, usual) == pytest.approx(
        {"windows": engine_s, "reserve": 2 * 0.04 + 0.02, "devices": 0.1}
    )
    # What is left of the wanted time goes to the reserve, up to 2.5 times the computing.
    assert found.latency_s(window, Wishes(0.56)) == pytest.approx(0.56)
    assert found.reserve_s(window, Wishes(1.0)) == pytest.approx(2.5 * 0.04 + 0.02)
    assert found.latency_s(window, own) == pytest.approx(engine_s + 0.3 + 0.1)
    silent = Times(DELAYS, {128: 0.04}, Server(latency_s=0.1, block_s=0.02, plays=False))
    assert silent.waits(window, usual) == pytest.approx({"windows": engine_s, "devices": 0.1})


@pytest.mark.parametrize(
    ("latency_s", "seconds", "chosen"),
    [
        (0.5, {64: 0.02, 128: 0.04}, 2),  # the best that fits
        (0.8, {64: 0.02, 128: 0.04}, 3),  # 0.02 dB better nobody hears, but half the load
        (0.9, {64: 0.02, 128: 0.15}, 3),  # hop 8 lasts 186 ms: 128 frames are too much for it
        (0.4, {64: 0.02, 128: 0.04}, 1),  # 348 + 2 * 40 ms is too late
        (0.21, {64: 0.02, 128: 0.04}, 0),
    ],
)
def test_what_sounds_best_of_what_fits(
    latency_s: float, seconds: dict[int, float], chosen: int
) -> None:
    assert choose(SETTINGS, times(seconds), Wishes(latency_s)) is SETTINGS[chosen]


def test_what_a_machine_cannot_hold_is_one_line() -> None:
    with pytest.raises(
        UserError,
        match=r"^--latency-ms 150: 203 ms is the least here, where the nets take 20 ms for 64 "
        r"frames, every 93 ms: raise it, or name fewer --stems with --mask direct$",
    ):
        choose(SETTINGS, times({64: 0.02, 128: 0.04}), Wishes(0.15))
    with pytest.raises(
        UserError,
        match=r"^this machine is too slow: the nets take 230 ms for 128 frames, every 372 ms: name "
        r"fewer --stems with --mask direct$",
    ):
        choose(SETTINGS, times({64: 0.15, 128: 0.23}), Wishes(0.5))


def test_a_chosen_window_has_its_limits() -> None:
    window = Window(128, 8, 4)
    planning.check(window, times({128: 0.15}), Wishes(0.1, window))
    with pytest.raises(
        UserError,
        match=r"^--hop 8: the nets take 170 ms for 128 frames, every 186 ms: raise --hop, lower",
    ):
        planning.check(window, times({128: 0.17}), Wishes(0.1, window))
    found = times({128: 0.04}, block_s=0.02)
    message = (
        r"^--reserve-ms 50: less than the 60 ms that the nets and a block of the sound server "
        r"take: raise it$"
    )
    with pytest.raises(UserError, match=message):
        planning.check(window, found, Wishes(0.1, window, reserve_s=0.05))
    planning.check(window, found, Wishes(0.1, window, reserve_s=0.061))
    nothing = times({128: 0.04}, block_s=0.02, plays=False)
    planning.check(window, nothing, Wishes(0.1, window))


def test_a_reserve_of_ones_own_leaves_out_what_takes_longer() -> None:
    found = times({64: 0.02, 128: 0.04}, block_s=0.005)
    assert choose(SETTINGS, found, Wishes(0.5, reserve_s=0.05)) is SETTINGS[2]
    assert choose(SETTINGS, found, Wishes(0.5, reserve_s=0.03)) is SETTINGS[1]
    with pytest.raises(UserError, match=r"^--reserve-ms 20: less than the 25 ms that the nets"):
        choose(SETTINGS, found, Wishes(0.5, reserve_s=0.02))


def test_the_least_that_a_message_names_is_enough() -> None:
    """At 48 kHz the windows' least delay is 169.2 ms: 169 would be refused again."""
    delays = Delays(INTERFACE, 48_000)
    with pytest.raises(UserError, match=r"^--latency-ms 169: 170 ms is the least: raise it$"):
        planning.plan_files(Nets({}).load, Wishes(0.169), delays)
    nets = Nets({(64, None): 0.03, (128, None): 0.03})
    assert planning.plan_files(nets.load, Wishes(0.170), delays)[1].hop == 4


class Nets:
    """What a machine takes for windows, instead of models: seconds by frames and threads."""

    def __init__(self, seconds: Mapping[tuple[int, int | None], float]) -> None:
        self.seconds = seconds
        self.loaded: list[tuple[int, int | None]] = []

    def load(self, frames: int, threads: int | None) -> Any:
        self.loaded.append((frames, threads))
        if (frames, threads) not in self.seconds:
            raise FramesError(f"frames={frames}: not those")
        return SimpleNamespace(nets=2, seconds=self.seconds[frames, threads])


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_seconds", lambda separator, window, delays: separator.seconds)
    monkeypatch.setattr(planning, "SETTINGS", SETTINGS)
    monkeypatch.setattr(planning, "MEASURED", [Window(64, 8, 0), Window(128, 8, 0)])


SERVER = Server(latency_s=0.01, block_s=0.005, plays=True)


@pytest.mark.usefixtures("known_times")
def test_the_fastest_threads_and_what_may_fit_are_measured() -> None:
    nets = Nets({(64, 1): 0.03, (64, 2): 0.02, (64, 4): 0.025, (128, 2): 0.04})
    plan = planning.plan(nets.load, Wishes(0.5), DELAYS, SERVER, cores=8)
    assert (plan.window, plan.threads) == (SETTINGS[2].window, 2)
    assert plan.reserve_s == pytest.approx(2.5 * 0.04 + 0.005)
    assert nets.loaded == [(64, 1), (64, 2), (64, 4), (128, 2), (128, 2)]
    # For 390 ms even 128 frames as quick as 64 would be too late, so they are not loaded.
    nets.loaded.clear()
    plan = planning.plan(nets.load, Wishes(0.39), DELAYS, SERVER, cores=8)
    assert plan.window == SETTINGS[0].window
    assert nets.loaded == [(64, 1), (64, 2), (64, 4), (64, 2)]


@pytest.mark.usefixtures("known_times")
def test_lengths_that_the_nets_do_not_run_on_are_left_out() -> None:
    nets = Nets({(128, None): 0.04})
    plan = planning.plan(nets.load, Wishes(0.5), DELAYS, SERVER, cores=None)
    assert (plan.window, plan.threads) == (SETTINGS[2].window, None)
    assert planning.plan_files(nets.load, Wishes(0.6), DELAYS)[1] == SETTINGS[3].window
    for none in (
        lambda: planning.plan(Nets({}).load, Wishes(0.5), DELAYS, SERVER, cores=None),
        lambda: planning.plan_files(Nets({}).load, Wishes(0.5), DELAYS),
    ):
        with pytest.raises(FramesError, match=r"^frames=(64|128): not those"):
            none()


@pytest.mark.parametrize(
    ("nets", "cores", "counts"), [(2, 2, []), (1, 2, [2]), (2, 16, [4, 8]), (4, 2, []), (3, 8, [2])]
)
def test_threads_of_a_net(nets: int, cores: int, counts: list[int]) -> None:
    assert planning.thread_counts(nets, cores) == counts


def test_losses_are_the_measured_ones() -> None:
    results = json.loads((ROOT / "docs" / "live" / "sound.json").read_text(encoding="utf-8"))
    measured = benchmark.losses(results)
    chosen = {
        benchmark.name_of(benchmark.FLOAT32, setting.window): setting.loss_db
        for setting in planning.SETTINGS
    }
    float32 = {name: loss for name, loss in measured.items() if name.startswith(benchmark.FLOAT32)}
    assert chosen == {name: round(loss, 2) for name, loss in float32.items()}
    columns, rows = benchmark.table(results)
    text = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    assert "\n".join(f"| {' | '.join(row)} |" for row in [columns]) in text
    assert "\n".join(f"| {' | '.join(row)} |" for row in rows) in text
