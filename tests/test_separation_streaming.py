"""Streams against the whole: however a song is cut, the same comes out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from stemforge.eval.separation.streaming import Resampler, StereoSeparation
from stemforge.features.signal.framing import Framing
from tests.conftest import RATE_HZ
from tests.test_separation_separator import model, separator_of

CUTS = st.lists(st.integers(0, 30_000), max_size=6)


def blocks(waveform: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(waveform, sorted(min(cut, len(waveform)) for cut in cuts))


class Shares:
    """A filter that lets the same share of all bins through."""

    def __init__(self, shares: list[float]) -> None:
        self._shares = shares

    def push(self, spectrum: np.ndarray, estimates: np.ndarray) -> list[Sequence[Any]]:
        return [[lambda share=share: np.float32(share) * spectrum for share in self._shares]]

    def finish(self) -> list[Sequence[Any]]:
        return []


def shares_stream(shares: list[float], *, frames: int, framing: Framing) -> StereoSeparation:
    return StereoSeparation(
        lambda mixture: mixture[None],
        Shares(shares),
        wanted=len(shares),
        frames=frames,
        bins=framing.bins,
        overlap_frames=0,
        framing=framing,
    )


@settings(deadline=None, max_examples=40)
@given(
    cuts=CUTS,
    samples=st.integers(1, 30_000),
    rates=st.sampled_from([(48000, 44100), (44100, 48000), (22050, 44100), (44100, 8000), (7, 5)]),
)
def test_resampling_is_scipys(cuts: list[int], samples: int, rates: tuple[int, int]) -> None:
    from_hz, to_hz = rates
    waveform = np.random.default_rng(samples).uniform(-1, 1, (samples, 2)).astype(np.float32)
    stream = Resampler(from_hz=from_hz, to_hz=to_hz, channels=2)
    parts = [stream.push(block) for block in blocks(waveform, cuts)]
    found = np.concatenate([*parts, stream.finish()])
    truth = scipy.signal.resample_poly(waveform, to_hz, from_hz, axis=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, atol=1e-6)


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(48000) / 48000
    stream = Resampler(from_hz=48000, to_hz=44100, channels=1)
    tone = np.sin(2 * np.pi * 1000 * t).astype(np.float32)[:, None]
    first, rest = stream.push(tone), stream.finish()
    assert len(first) > 43_000  # what no later sample changes is there at once
    resampled = np.concatenate([first, rest])
    assert resampled.shape == (44100, 1)
    expected = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
    np.testing.assert_allclose(resampled[2000:-2000, 0], expected[2000:-2000], atol=2e-3)


@settings(deadline=None, max_examples=30)
@given(cuts=CUTS, samples=st.integers(1, 30_000), frames=st.sampled_from([1, 2, 8]))
def test_what_is_not_masked_comes_back(cuts: list[int], samples: int, frames: int) -> None:
    waveform = np.random.default_rng(samples).uniform(-1, 1, (samples, 2)).astype(np.float32)
    framing = Framing(512, 128)
    stream = shares_stream([1.0, 0.5], frames=frames, framing=framing)
    parts = [stream.push(block) for block in blocks(waveform, cuts)] + [stream.finish()]
    whole, half = (np.concatenate(stem) for stem in zip(*parts, strict=True))
    assert whole.shape == half.shape == waveform.shape
    # Without an edge: zeros of a window in front, and frames that begin at every hop.
    np.testing.assert_allclose(whole[: samples - 512], waveform[: samples - 512], atol=1e-6)
    np.testing.assert_allclose(half, whole / 2, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, {"overlap_frames": 5, "residual": True}, {"mwf_window_frames": 7, "overlap_frames": 8}],
)
@settings(deadline=None, max_examples=4)
@given(cuts=CUTS, samples=st.sampled_from([1, 4095, 12 * 1024 + 1, 30_000]))
def test_a_stream_is_separated_as_the_whole(
    rate_hz: int, channels: int, options: dict[str, Any], cuts: list[int], samples: int
) -> None:
    waveform = np.random.default_rng(3).uniform(-1, 1, (samples, channels)).astype(np.float32)
    separator = separator_of([model("a", seed=1), model("b", seed=2)], **options)
    whole = separator.separate(waveform, sample_rate_hz=rate_hz)
    parts = list(separator.separate_stream(blocks(waveform, cuts), sample_rate_hz=rate_hz))
    for stem in separator.stems:
        found = np.concatenate([part[stem] for part in parts])
        assert found.shape == waveform.shape
        np.testing.assert_allclose(found, whole[stem], atol=1e-6)


def test_a_long_stream_holds_little() -> None:
    """What is pending never exceeds a part, a window and a block."""
    framing = Framing(4096, 1024)
    stream = shares_stream([1.0], frames=16, framing=framing)
    pushed = ready = 0
    for _ in range(40):
        (out,) = stream.push(np.zeros((10_000, 2), np.float32))
        pushed, ready = pushed + 10_000, ready + len(out)
        assert pushed - ready < framing.span(16) + 4096 + 10_000
        assert sum(len(block) for block in stream._blocks) < framing.span(16) + 10_000
