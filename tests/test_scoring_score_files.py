import pytest

from stemforge.eval.scoring.scores import Remark, TrackScores
from stemforge.pipelines.scoring.score_files import say_remarks

LOUD = "9 samples too long, cut"


def test_a_few_remarks_of_each_kind_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Forty songs, two methods: the silent stem is the song's, the long estimate the method's."""
    silent = Remark("vocals", "silent_reference", "its reference is silent")
    long = Remark("bass", "cut", LOUD)
    found = [
        (method, TrackScores(f"Song {n:02}", {}, remarks=remarks))
        for method, remarks in (("mine", (silent, long)), ("IRM1", (silent,)))
        for n in range(40)
    ]
    assert (
        say_remarks(found, label="score", where="out/leaderboard.md") == 40
    )  # silence is no fault
    assert capsys.readouterr().err.splitlines() == [
        *(
            f"score: 2 methods: Song {n:02}: vocals: silent_reference: its reference is silent"
            for n in range(4)
        ),
        "score: silent_reference: and 36 more, in out/leaderboard.md",
        *(f"score: mine: Song {n:02}: bass: cut: {LOUD}" for n in range(4)),
        "score: cut: and 36 more, in out/leaderboard.md",
    ]
    say_remarks(found, label="score", where=None)  # nothing else will name them
    assert len(capsys.readouterr().err.splitlines()) == 80
