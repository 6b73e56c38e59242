"""Which tracks and blocks are kept for training; each reject has a reason (manifest.Reason).

Tracks are rejected here as too_short or inconsistent_mixture; the other reasons for a track are
found when it is decoded. All reasons for a block are checked here, in the order of
manifest.BlockReason. A single silent stem is kept: a net must learn silence too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stemforge.features.corpus.manifest import BlockReason, Reject, Track
from stemforge.features.shards.blocks import Block
from stemforge.features.signal.stft import Waveform

# A sample counts as clipped at one 16-bit step below full scale or above.
FULL_SCALE = 1.0 - 2.0**-15


@dataclass(frozen=True)
class Thresholds:
    """Limits of validity.

    Attributes:
        min_duration_s: shorter tracks are too_short.
        max_residual_db: tracks whose mixture differs more from the sum of the stems are
            inconsistent_mixture; energy ratio in dB, 0 is as loud as the mixture.
        silence_db: blocks with an rms below this are silent; dB of full scale.
        max_clipped_ratio: blocks with a larger share of samples at full scale are clipped.
    """

    min_duration_s: float
    max_residual_db: float
    silence_db: float
    max_clipped_ratio: float


def rms_db(waveform: Waveform) -> float:
    """Root mean square in dB of full scale; -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
    return 10.0 * float(np.log10(power)) if power > 0.0 else -np.inf


def reject_track(track: Track, thresholds: Thresholds) -> Reject | None:
    """Checks a decoded track by its row in the manifest; None: it is kept."""
    if track.duration_s < thresholds.min_duration_s:
        detail = f"{track.duration_s:.2f} s is shorter than {thresholds.min_duration_s} s"
        return Reject(track.name, track.split, None, "too_short", track.duration_s, detail)
    if track.residual_db > thresholds.max_residual_db:
        detail = f"mixture minus stems at {track.residual_db:.1f} dB of the mixture"
        return Reject(
            track.name, track.split, None, "inconsistent_mixture", track.residual_db, detail
        )
    return None


def reject_block(
    track: Track,
    block: Block,
    sources: Mapping[str, Waveform],
    thresholds: Thresholds,
    *,
    mixture: str,
) -> Reject | None:
    """Checks the samples under one block.

    Args:
        track: which song, for the reject.
        block: which block.
        sources: float32 [samples, channels] per source, full scale at 1.
        thresholds: limits.
        mixture: which of the sources is the mixture; the others are the targets.

    Returns:
        The first reason that holds, in the order of BlockReason, or None.
    """

    def reject(reason: BlockReason, value: float | None, detail: str) -> Reject:
        return Reject(track.name, track.split, block.index, reason, value, detail)

    for name, waveform in sources.items():
        bad = int(np.count_nonzero(~np.isfinite(waveform)))
        if bad:
            return reject("non_finite", float(bad), f"{bad} samples of {name} are not finite")
    level_db = rms_db(sources[mixture])
    if level_db < thresholds.silence_db:
        return reject("silent_mixture", level_db, f"mixture at {level_db:.1f} dB")
    stems = [waveform for name, waveform in sources.items() if name != mixture]
    if not any(rms_db(waveform) >= thresholds.silence_db for waveform in stems):
        loudest_db = max(map(rms_db, stems))
        return reject("silent_targets", loudest_db, f"loudest stem at {loudest_db:.1f} dB")
    ratio = float(np.mean(np.abs(sources[mixture]) >= FULL_SCALE))
    if ratio > thresholds.max_clipped_ratio:
        return reject("clipped", ratio, f"{ratio:.1%} of the mixture's samples at full scale")
    return None
