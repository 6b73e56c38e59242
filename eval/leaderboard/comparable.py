"""Leaves out scores that were not computed on this test set, in these frames."""

import math
from collections.abc import Collection, Iterable, Mapping

from stemforge.eval.scoring import bss_eval as bss
from stemforge.eval.scoring.scores import MethodScores, Remark, Scoring, TrackScores

# Decoders of AAC differ by milliseconds at a song's end, so one frame more or less is the same
# song; SiSEC 2018's own files differ so. In a short excerpt it is another excerpt.
SAME_FRAMES_SHARE = 0.02
OURS_NOW = "undetermined"  # a field of Scoring, since MIX is SiSEC 2018's
FORMER_MIX = (
    "scores of an earlier version, whose MIX was the mixture as it is (now UNPROCESSED), not "
    "SiSEC 2018's: left out; score again with --oracles MIX"
)


def count_frames(samples: int, sample_rate_hz: int, how: Scoring) -> int:
    """Number of frames that a track has, as eval.scoring.scores.score_track cuts them.

    Args:
        samples: of the track, per channel.
        sample_rate_hz: of the track.
        how: window and hop.
    """
    window, hop = (int(seconds * sample_rate_hz) for seconds in (how.window_s, how.hop_s))
    return len(bss.frames(samples, window=window, hop=hop))


def is_same_song(frames: int, here: int) -> bool:
    """Whether so many frames can be of a song with `here` frames; see SAME_FRAMES_SHARE."""
    return abs(frames - here) <= min(1, SAME_FRAMES_SHARE * here)


def keep_comparable(
    found: Iterable[MethodScores],
    frames: Mapping[str, int | None],
    how: Scoring,
    *,
    stems: Collection[str],
) -> list[MethodScores]:
    """Replaces scores of another test set, window, hop or definition by a remark that says so.

    Args:
        found: scores by method and track.
        frames: number of frames of each test track, None where it is not known.
        how: window and hop of this leaderboard.
        stems: of the corpus, as this leaderboard has them.

    Returns:
        The same tracks in the same order.
    """
    kept = []
    for method, scores in found:
        remark = None
        if scores.frames and _is_former_mix(method, scores):
            remark = Remark("", "outdated", FORMER_MIX)
        elif scores.frames and (why := _difference(scores, frames, how, stems)):
            remark = Remark("", "other_test_set", f"{why}: left out")
        kept.append(
            (method, TrackScores(scores.track, {}, remarks=(remark,)) if remark else scores)
        )
    return kept


def _is_former_mix(method: str, scores: TrackScores) -> bool:
    """Whether our scores of MIX are from a version whose MIX was the mixture as it is.

    Such versions wrote no policy on undetermined frames; other programs write no policy at all.
    """
    return method == "MIX" and "nan_policy" in scores.scoring and OURS_NOW not in scores.scoring


def _difference(
    scores: TrackScores,
    frames: Mapping[str, int | None],
    how: Scoring,
    stems: Collection[str],
) -> str:
    """What is not the same; empty where all is."""
    if scores.track not in frames:
        return "no test track of this corpus"
    for stem in scores.scoring.get("against_rest", ()):
        if stem not in stems:
            return f"{stem} against the rest, and no stem here is {stem} ({', '.join(stems)})"
    grid = {name: scores.scoring.get(name, getattr(how, name)) for name in ("window_s", "hop_s")}
    if not all(math.isclose(grid[name], getattr(how, name), rel_tol=1e-3) for name in grid):
        return f"frames of {_spaced(**grid)}, here of {_spaced(how.window_s, how.hop_s)}"
    here = frames[scores.track]
    counts = {len(values) for metrics in scores.frames.values() for values in metrics.values()}
    for count in sorted(counts):
        if here is not None and not is_same_song(count, here):
            return f"{count} frames of {how.window_s:g} s, here {here}: of another test set"
    return ""


def _spaced(window_s: float, hop_s: float) -> str:
    return f"{window_s:g} s" + (f" every {hop_s:g} s" if hop_s != window_s else "")
