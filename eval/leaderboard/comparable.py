"""Leaves out scores that were not computed on this test set, in these frames."""

import math
from collections.abc import Iterable, Mapping

from stemforge.eval.scoring import bss_eval as bss
from stemforge.eval.scoring.scores import MethodScores, Remark, Scoring, TrackScores

# Decoders of AAC differ by milliseconds at a song's end, so one frame more or less is the same
# song; SiSEC 2018's own files differ so. In a short excerpt it is another excerpt.
SAME_FRAMES_SHARE = 0.02


def count_frames(samples: int, sample_rate_hz: int, how: Scoring) -> int:
    """Number of frames that a track has, as eval.scoring.scores.score_track cuts them.

    Args:
        samples: of the track, per channel.
        sample_rate_hz: of the track.
        how: window and hop.
    """
    window, hop = (int(seconds * sample_rate_hz) for seconds in (how.window_s, how.hop_s))
    return len(bss.frames(samples, window=window, hop=hop))


def keep_comparable(
    found: Iterable[MethodScores], frames: Mapping[str, int | None], how: Scoring
) -> list[MethodScores]:
    """Replaces scores of another test set, window or hop by a remark that says so.

    Args:
        found: scores by method and track.
        frames: number of frames of each test track, None where it is not known.
        how: window and hop of this leaderboard.

    Returns:
        The same tracks in the same order.
    """
    return [(method, _compared(scores, frames, how)) for method, scores in found]


def _compared(scores: TrackScores, frames: Mapping[str, int | None], how: Scoring) -> TrackScores:
    difference = _difference(scores, frames, how) if scores.frames else ""
    if not difference:
        return scores
    remark = Remark("", "other_test_set", f"{difference}: left out")
    return TrackScores(scores.track, {}, remarks=(remark,))


def _difference(scores: TrackScores, frames: Mapping[str, int | None], how: Scoring) -> str:
    """What is not the same; empty where all is."""
    if scores.track not in frames:
        return "no test track of this corpus"
    grid = {name: scores.scoring.get(name, getattr(how, name)) for name in ("window_s", "hop_s")}
    if not all(math.isclose(grid[name], getattr(how, name), rel_tol=1e-3) for name in grid):
        return f"frames of {_spaced(**grid)}, here of {_spaced(how.window_s, how.hop_s)}"
    here = frames[scores.track]
    counts = {len(values) for metrics in scores.frames.values() for values in metrics.values()}
    for count in sorted(counts):
        if here is not None and abs(count - here) > min(1, SAME_FRAMES_SHARE * here):
            return f"{count} frames of {how.window_s:g} s, here {here}: of another test set"
    return ""


def _spaced(window_s: float, hop_s: float) -> str:
    return f"{window_s:g} s" + (f" every {hop_s:g} s" if hop_s != window_s else "")
