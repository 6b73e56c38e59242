"""Scores of another test set, window or hop are found, whoever wrote the file."""

import json
from typing import Any

import pytest

from stemforge.eval.leaderboard import published
from stemforge.eval.leaderboard.comparable import count_frames, keep_comparable
from stemforge.eval.scoring.scores import METRICS, MUSEVAL, Scoring, from_json

STEMS = ("vocals", "drums")
HALF = Scoring(window_s=1.0, hop_s=0.5, nan_policy="museval", accompaniment=False)


def museval_file(frames: int, **grid: Any) -> bytes:
    """A file as museval.aggregate.TrackStore writes it, without a part of ours."""
    win, hop = grid.get("win", 1.0), grid.get("hop", 1.0)
    metrics = dict.fromkeys(METRICS, 1.0)
    rows = [{"time": n * hop, "duration": win, "metrics": metrics} for n in range(frames)]
    targets = [{"name": name, "frames": rows} for name in ("vocals", "drums")]
    return json.dumps({"targets": targets}).encode()


def why_left_out(file: bytes, here: int | None, how: Scoring = MUSEVAL) -> str:
    scores = from_json("Song", file)
    ((method, kept),) = keep_comparable([("X", scores)], {"Song": here}, how, stems=STEMS)
    assert method == "X"
    if kept is scores:
        return ""
    assert not kept.frames
    (remark,) = kept.remarks
    assert (remark.target, remark.reason) == ("", "other_test_set")
    return remark.detail


@pytest.mark.parametrize(
    ("file", "here", "how", "why"),
    [
        (museval_file(6), 6, MUSEVAL, ""),
        (museval_file(6), None, MUSEVAL, ""),  # the song's length is not known
        (
            *(museval_file(209), 6, MUSEVAL),
            "209 frames of 1 s, here 6: of another test set: left out",
        ),
        (museval_file(7), 6, MUSEVAL, "7 frames of 1 s, here 6: of another test set: left out"),
        (museval_file(75), 76, MUSEVAL, ""),  # SiSEC 2018's own two counts of one song
        (museval_file(76), 75, MUSEVAL, ""),
        (museval_file(74), 76, MUSEVAL, "74 frames of 1 s, here 76: of another test set: left out"),
        (
            *(museval_file(6, win=2.0), 6, MUSEVAL),
            "frames of 2 s every 1 s, here of 1 s: left out",
        ),
        (museval_file(6), 6, HALF, "frames of 1 s, here of 1 s every 0.5 s: left out"),
        (museval_file(6, hop=0.5), 6, HALF, ""),
        (museval_file(1, win=1.0), 1, HALF, ""),  # one frame has no hop
    ],
)
def test_what_is_left_out(file: bytes, here: int, how: Scoring, why: str) -> None:
    assert why_left_out(file, here, how) == why


def test_a_song_of_another_corpus_is_left_out() -> None:
    found = [("X", from_json("Other", museval_file(6)))]
    ((_, kept),) = keep_comparable(found, {"S": 6}, MUSEVAL, stems=STEMS)
    assert [remark.detail for remark in kept.remarks] == ["no test track of this corpus: left out"]


@pytest.mark.parametrize(
    ("method", "scoring", "reason", "why"),
    [
        ("X", {"against_rest": ["drums"]}, "", ""),
        (
            *("X", {"against_rest": ["guitar"]}, "other_test_set"),
            "guitar against the rest, and no stem here is guitar (vocals, drums): left out",
        ),
        # Versions of which MIX was the mixture as it is knew no undetermined frames.
        ("MIX", {"nan_policy": "museval"}, "outdated", "score again with --oracles MIX"),
        ("MIX", {"nan_policy": "museval", "undetermined": "keep"}, "", ""),
        ("MIX", {}, "", ""),  # by another program
        ("IRM1", {"nan_policy": "museval"}, "", ""),
    ],
)
def test_scores_of_other_stems_and_of_a_former_mix_are_left_out(
    method: str, scoring: dict[str, Any], reason: str, why: str
) -> None:
    data = json.loads(museval_file(6)) | {"stemforge": {"scoring": scoring}}
    scores = from_json("Song", json.dumps(data).encode())
    ((_, kept),) = keep_comparable([(method, scores)], {"Song": 6}, MUSEVAL, stems=STEMS)
    assert [remark.reason for remark in kept.remarks] == [reason] * bool(reason)
    assert (kept.frames == {}) == bool(reason)
    assert all(remark.detail.endswith(why) for remark in kept.remarks)


def test_frames_are_counted_as_sisec_2018s() -> None:
    """An excerpt of MUSDB18-7, and a whole song of 209.4 s, whose files have 209 frames."""
    assert count_frames(300_032, 44_100, MUSEVAL) == 6
    theirs = published.sisec18()
    song = theirs[theirs["track"] == "AM Contra - Heart Peripheral"]
    assert {count_frames(int(209.4 * 44_100), 44_100, MUSEVAL)} == set(song["frames"])
    assert count_frames(300_032, 44_100, HALF) == 12  # starts at 0, 0.5, ..., 5.5 s
