"""The live engine: exact delay, blocks of any size, and equal to `separate` with a whole part."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.errors import UserError
from stemforge.eval.separation.live import LiveSeparation, LiveSong, Window, latency_of
from stemforge.eval.separation.separator import Separator
from stemforge.eval.separation.streaming import Resampler
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Waveform
from tests.conftest import RATE_HZ
from tests.test_separation_separator import model, separator_of
from tests.test_separation_streaming import CUTS, Shares, blocks

SMALL = Framing(16, 4)


def noise(samples: int, channels: int = 2, seed: int = 0) -> Waveform:
    return np.random.default_rng(seed).uniform(-1, 1, (samples, channels)).astype(np.float32)


def shares_live(
    shares: list[float], window: Window, *, channels: int = 2, rates: tuple[int, int] = (8, 8)
) -> LiveSong:
    """Lets the same share of all bins through, at a small STFT; rates: of sound and nets."""
    separation = LiveSeparation(
        lambda mixture: mixture[None],
        Shares(shares),
        wanted=len(shares),
        window=window,
        bins=SMALL.bins,
        framing=SMALL,
    )
    return LiveSong(
        separation,
        lambda mixture, stems: {"mixture": mixture, **dict(zip("abcd", stems, strict=False))},
        channels=channels,
        sample_rate_hz=rates[0],
        inside_hz=rates[1],
    )


def feed(song: LiveSong, parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    found = [song.push(part) for part in parts]
    for part, out in zip(parts, found, strict=True):
        assert {wave.shape for wave in out.values()} == {part.shape}
    return {name: np.concatenate([out[name] for out in found]) for name in found[0]}


def live_of(separator: Separator, *, hop: int, lookahead: int, channels: int = 2) -> LiveSong:
    return separator.start_live(
        hop=hop, lookahead=lookahead, channels=channels, sample_rate_hz=RATE_HZ
    )


@pytest.fixture(scope="module")
def separator() -> Separator:
    return separator_of([model("vocals", seed=1), model("drums", seed=2)], residual=True)


WINDOWS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 8)).filter(
    lambda sizes: sizes[1] + sizes[2] <= sizes[0]
)


@settings(deadline=None, max_examples=60)
@given(sizes=WINDOWS, cuts=CUTS, channels=st.sampled_from([1, 2]))
def test_the_delay_is_the_stated_one(
    sizes: tuple[int, int, int], cuts: list[int], channels: int
) -> None:
    song = shares_live([1.0, 0.5], Window(*sizes), channels=channels)
    assert song.latency == 16 - 1 + (sizes[1] - 1 + sizes[2]) * 4
    wave = noise(900, channels)
    found = feed(song, blocks(wave, [cut % 901 for cut in cuts]))
    late = np.concatenate([np.zeros((song.latency, channels)), wave])[:900]
    np.testing.assert_array_equal(found["mixture"], late)
    np.testing.assert_allclose(found["a"], late, atol=1e-5)
    np.testing.assert_allclose(found["b"], late / 2, atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1, 0), (3, 1, 2), (8, 3, 5), (9, 7, 1)])
@pytest.mark.parametrize("rates", [(8, 8), (160, 147), (147, 160), (1, 2), (3, 1), (7, 5)])
def test_the_delay_is_the_least(sizes: tuple[int, int, int], rates: tuple[int, int]) -> None:
    song = shares_live([1.0], Window(*sizes), rates=rates)
    left = []
    for part in noise(700)[:, None]:  # a sample at a time: none has to wait for another
        song.push(part)
        left.append(sum(map(len, song._stems[0]._parts)))
    assert min(left) == 0


@pytest.mark.parametrize("rates", [(48000, 44100), (22050, 44100), (96000, 44100)])
def test_an_impulse_is_late_by_the_stated_delay(rates: tuple[int, int]) -> None:
    song = shares_live([1.0], Window(8, 4, 2), rates=rates)
    wave = np.zeros((4000, 2), np.float32)
    wave[500] = 1.0
    found = feed(song, blocks(wave, [1000, 1001, 3000]))
    assert np.argmax(found["a"][:, 0]) == 500 + song.latency
    assert np.argmax(found["mixture"][:, 0]) == 500 + song.latency


@settings(deadline=None, max_examples=15)
@given(cuts=CUTS, sizes=st.sampled_from([(1, 0), (2, 3), (8, 4), (16, 0), (5, 11)]))
def test_blocks_do_not_change_a_sample(
    separator: Separator, cuts: list[int], sizes: tuple[int, int]
) -> None:
    wave = noise(30_000)
    at_once = feed(live_of(separator, hop=sizes[0], lookahead=sizes[1]), [wave])
    cut = feed(live_of(separator, hop=sizes[0], lookahead=sizes[1]), blocks(wave, cuts))
    for name in at_once:
        np.testing.assert_array_equal(cut[name], at_once[name])


@pytest.mark.parametrize("samples", [1, 4096, 50_001])
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_parts_are_what_separate_returns(
    separator: Separator, samples: int, channels: int
) -> None:
    wave = noise(samples, channels)
    song = live_of(separator, hop=16, lookahead=0, channels=channels)
    more = np.zeros((song.latency, channels), np.float32)
    found = feed(song, [wave, more])
    truth = separator.separate(wave, sample_rate_hz=RATE_HZ)
    assert found.keys() == truth.keys() == {"vocals", "drums", "residual"}
    for name, stem in truth.items():
        np.testing.assert_allclose(found[name][song.latency :], stem, atol=1e-6)


def test_a_frame_is_separated_with_what_the_window_saw() -> None:
    """By hand: an estimate that depends on where a frame lies in its window."""
    seen: list[np.ndarray] = []

    def estimate(mixture: np.ndarray) -> np.ndarray:
        seen.append(mixture.copy())
        place = np.arange(6, dtype=np.float32)[:, None, None]
        return (mixture * 0 + place)[None]

    class Places:
        def __init__(self) -> None:
            self.places: list[float] = []

        def push(self, spectrum: np.ndarray, estimates: np.ndarray) -> list[Any]:
            self.places += estimates[0, :, 0, 0].tolist()
            return [[lambda: spectrum]]

        def finish(self) -> list[Any]:
            return []

    places = Places()
    separation = LiveSeparation(
        estimate, places, wanted=1, window=Window(6, 2, 1), bins=SMALL.bins, framing=SMALL
    )
    wave = noise(40 * 4)
    separation.push(wave)
    # Windows of 6 frames, 2 new at each: the third and the second from the right are separated.
    # Of the first two frames only the first has a newer one.
    assert places.places[:1] == [4.0]
    assert set(itertools.pairwise(places.places[1:])) == {(3.0, 4.0), (4.0, 3.0)}
    padded = np.concatenate([np.zeros((16, 2), np.float32), wave])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)
    frames = [
        np.abs(np.fft.rfft(padded[4 * n : 4 * n + 16] * window[:, None], axis=0)) for n in range(20)
    ]
    np.testing.assert_allclose(seen[0][-2:], frames[:2], atol=1e-5)
    assert not seen[0][:-2].any()
    np.testing.assert_allclose(seen[9], frames[14:20], atol=1e-5)


def test_no_memory_is_kept(separator: Separator) -> None:
    song = live_of(separator, hop=4, lookahead=2)
    held = []
    for block in blocks(noise(200_000), [*range(0, 200_000, 1000)]):
        song.push(block)
        queues = [song._mixture, *song._stems]
        held.append(sum(len(part) for queue in queues for part in queue._parts))
    assert max(held) <= len(queues) * (song.latency + 8192)
    assert max(held[100:]) <= max(held[20:100])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 0), r"^hop=0: must be 1 to 16, the frames that the nets process at once"),
        ((17, 0), r"^hop=17: must be 1 to 16"),
        ((8, 9), r"^lookahead=9: must be 0 to 8: each window of 16 frames has 8 new ones"),
        ((8, -1), r"^lookahead=-1: must be 0 to 8"),
    ],
)
def test_windows_that_do_not_fit(
    separator: Separator, sizes: tuple[int, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        live_of(separator, hop=sizes[0], lookahead=sizes[1])


@pytest.mark.parametrize("options", [{"mwf_window_frames": 20}, {"overlap_frames": 2}])
def test_what_needs_the_future_is_refused(options: dict[str, int]) -> None:
    separator = separator_of([model("vocals", seed=1), model("drums", seed=2)], **options)
    with pytest.raises(UserError, match=r"^live: a Wiener filter and overlapping parts need the"):
        live_of(separator, hop=8, lookahead=0)


def test_the_delays_of_the_documentation() -> None:
    """docs/live.md: 348 ms at 44.1 kHz; at other rates the resampling comes on top."""
    found = {}
    for rate_hz in (44100, 48000, 96000, 8000, 16000, 32000):
        into = Resampler(from_hz=rate_hz, to_hz=44100, channels=2)
        out = Resampler(from_hz=44100, to_hz=rate_hz, channels=2)
        late = latency_of(Window(128, 8, 4), Framing(4096, 1024), into, out)
        found[rate_hz] = 1000 * late / rate_hz
    assert found[44100] == pytest.approx(1000 * 15_359 / 44100)
    assert max(found[48000], found[96000]) < found[44100] + 7
    assert max(found[8000], found[16000], found[32000]) < found[44100] + 21


def test_more_channels_are_refused(separator: Separator) -> None:
    with pytest.raises(UserError, match=r"^3 channels: not supported; supported: mono and stereo"):
        live_of(separator, hop=4, lookahead=0, channels=3)
