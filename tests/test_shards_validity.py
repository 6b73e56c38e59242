import dataclasses

import numpy as np
import pytest

from stemforge.features.corpus.manifest import Source, Track
from stemforge.features.shards.blocks import Block
from stemforge.features.shards.validity import Thresholds, reject_block, reject_track, rms_db

LIMITS = Thresholds(
    min_duration_s=1.0, max_residual_db=-10.0, silence_db=-60.0, max_clipped_ratio=0.05
)
BLOCK = Block(3, 1536, 512)
GOOD_TRACK = Track(
    name="song",
    split="train",
    samples=88200,
    sample_rate_hz=44100,
    duration_s=2.0,
    residual_db=-25.0,
    ffmpeg="",
    sources=(Source("mixture", "m.wav", "PCM_16", 0.5, 0.1, 0, "", ""),),
)


def sources(**changes: np.ndarray) -> dict[str, np.ndarray]:
    t = np.arange(4096)[:, None] / 44100
    tone = np.repeat(0.5 * np.sin(2 * np.pi * 440 * t), 2, axis=1).astype(np.float32)
    return {"mixture": tone, "vocals": tone, "bass": np.zeros_like(tone)} | changes


def reason(waveforms: dict[str, np.ndarray]) -> tuple[str, float | None] | None:
    reject = reject_block(GOOD_TRACK, BLOCK, waveforms, LIMITS, mixture="mixture")
    return (reject.reason, reject.value) if reject else None


def test_a_good_block_with_one_silent_stem_is_kept() -> None:
    assert reason(sources()) is None


def test_non_finite() -> None:
    bad = np.full((4096, 2), 0.1, np.float32)
    bad[5, 0], bad[6, 1] = np.nan, np.inf
    assert reason(sources(bass=bad)) == ("non_finite", 2.0)


def test_silent_mixture_at_the_threshold() -> None:
    quiet = np.full((4096, 2), 10 ** (-60.1 / 20), np.float32)
    found = reason(sources(mixture=quiet))
    assert found is not None
    assert found[0] == "silent_mixture"
    assert found[1] == pytest.approx(-60.1, abs=1e-3)
    assert reason(sources(mixture=quiet * 10 ** (0.2 / 20))) is None


def test_silent_targets() -> None:
    assert reason(sources(vocals=np.zeros((4096, 2), np.float32))) == ("silent_targets", -np.inf)


def test_clipped() -> None:
    loud = sources()["mixture"].copy()
    loud[:400] = 1.0
    found = reason(sources(mixture=loud))
    assert found is not None
    assert found[0] == "clipped"
    assert found[1] == pytest.approx(400 / 4096)
    loud[200:] = 0.5
    assert reason(sources(mixture=loud)) is None  # 4.9 %


def test_rms_of_a_full_scale_sine_is_minus_3_db() -> None:
    sine = np.sin(2 * np.pi * np.arange(44100) / 100).astype(np.float32)[:, None]
    assert rms_db(sine) == pytest.approx(-3.0103, abs=1e-3)


def test_tracks() -> None:
    assert reject_track(GOOD_TRACK, LIMITS) is None
    short = dataclasses.replace(GOOD_TRACK, duration_s=0.9)
    wrong = dataclasses.replace(GOOD_TRACK, residual_db=-3.0)
    silent = dataclasses.replace(GOOD_TRACK, residual_db=float("nan"))
    found = [reject_track(track, LIMITS) for track in (short, wrong)]
    assert [(r.reason, r.value, r.block) for r in found if r] == [
        ("too_short", 0.9, None),
        ("inconsistent_mixture", -3.0, None),
    ]
    assert reject_track(silent, LIMITS) is None  # its blocks are judged one by one
