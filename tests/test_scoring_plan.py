"""Plans of scores, from what was found: no file is opened, and no audio is there."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemforge.errors import UserError
from stemforge.eval.scoring.estimates import Estimates
from stemforge.eval.scoring.scores import Remark, Scoring
from stemforge.features.corpus.sources import rest_of
from stemforge.pipelines.scoring.methods import AgainstRest, FromFolder, FromModel, Oracle
from stemforge.pipelines.scoring.plan import Job, Plan, TrackSources, plan_scores

PLAIN = Scoring(window_s=1.0, hop_s=0.5, nan_policy="per_source", accompaniment=False)
DERIVED = replace(PLAIN, accompaniment=True)
PAIRED = replace(PLAIN, against_rest=("vocals",))
STEMS = ("vocals", "drums", "bass")
MISSING = Remark("vocals", "missing", "no estimate of vocals")
UNKNOWN = Remark("", "unknown_track", "the corpus has no test track of this name")


def never() -> AbstractContextManager[dict[str, Path]]:
    raise AssertionError("a plan opens no track")


TRACKS = [TrackSources(name, never, (f"hq/{name}.wav",)) for name in ("One", "Two", "Three")]


def folder(*targets: str, **changes: Any) -> Estimates:
    """Estimates of One and Two, none of Three, and of a track that the corpus does not know."""
    files = {name: {t: f"mine/{name}/{t}.wav" for t in targets} for name in ("One", "Two")}
    remarks = {"One": (), "Two": (), "Three": (MISSING,), "Strange": (UNKNOWN,)}
    found = Estimates(targets, {**files, "Three": {}}, remarks)
    return replace(found, **changes)


def model(*stems: str) -> FromModel:
    separator: Any = SimpleNamespace(stems=stems)
    return FromModel(separator, ("m/model.keras",), frozenset({"piano"}))


def plan(found: Estimates | FromModel, **changes: Any) -> Plan:
    options: dict[str, Any] = {
        "stems": STEMS,
        "oracles": (),
        "scoring": PLAIN,
        "out": "gs://b/out",
        "there": (),
    }
    tracks = changes.pop("tracks", TRACKS)
    return plan_scores("mine", tracks, found, **options | changes)


def names(jobs: tuple[Job, ...]) -> list[tuple[str, str]]:
    return [(job.method, job.track.name) for job in jobs]


def test_estimates_in_files_are_scored_side_by_side() -> None:
    made = plan(folder("vocals", "drums"), oracles=["MIX", "IRM1"])
    assert made.in_turn == ()
    assert names(made.side_by_side) == [
        *(("mine", "One"), ("mine", "Two")),
        *((oracle, track.name) for track in TRACKS for oracle in ("MIX", "IRM1")),
    ]
    first, second = made.side_by_side[:2]
    places = {"vocals": "mine/One/vocals.wav", "drums": "mine/One/drums.wav"}
    assert first == Job("mine", TRACKS[0], FromFolder(places), PLAIN, "gs://b/out")
    assert second.track.files == ("hq/Two.wav",)
    assert made.side_by_side[2].estimates == Oracle("MIX")


def test_a_track_that_is_scored_in_part_takes_its_remarks_along() -> None:
    found = folder("vocals", "drums")
    files = {**found.files, "Two": {"drums": "mine/Two/drums.wav"}}
    remarks = {**found.remarks, "Two": (MISSING,)}
    made = plan(replace(found, files=files, remarks=remarks))
    places = {"vocals": "mine/One/vocals.wav", "drums": "mine/One/drums.wav"}
    assert [job.estimates for job in made.side_by_side] == [
        FromFolder(places),
        FromFolder({"drums": "mine/Two/drums.wav"}, (MISSING,)),
    ]


def test_tracks_without_estimates_and_unknown_ones_are_unscored_with_the_reason() -> None:
    made = plan(folder("vocals", "drums"))
    assert [(track.track, track.frames, track.remarks) for track in made.unscored] == [
        ("Three", {}, (MISSING,)),
        ("Strange", {}, (UNKNOWN,)),
    ]


def test_a_model_is_scored_in_turn_and_oracles_side_by_side() -> None:
    found = model("vocals", "drums")
    made = plan(found, oracles=["MIX"])
    assert names(made.in_turn) == [("mine", track.name) for track in TRACKS]
    assert {id(job.estimates) for job in made.in_turn} == {id(found)}
    assert names(made.side_by_side) == [("MIX", track.name) for track in TRACKS]
    assert made.unscored == ()


TESTED: list[tuple[Callable[[], Estimates | FromModel], Scoring, Scoring]] = [
    (lambda: folder("vocals", "drums"), PLAIN, PLAIN),
    (lambda: folder("vocals", "drums"), DERIVED, DERIVED),
    (lambda: folder("vocals", "accompaniment"), PLAIN, PAIRED),
    (lambda: folder("drums", "no_drums"), DERIVED, replace(DERIVED, against_rest=("drums",))),
    (lambda: model("vocals", "drums", "piano"), PLAIN, PLAIN),
]


@pytest.mark.parametrize(("found", "scoring", "of_oracles"), TESTED)
def test_oracles_have_a_rest_where_the_method_has_one(
    found: Callable[[], Estimates | FromModel], scoring: Scoring, of_oracles: Scoring
) -> None:
    made = plan(found(), scoring=scoring, oracles=["MIX"])
    used = {(job.method, job.scoring) for job in (*made.in_turn, *made.side_by_side)}
    assert used == {("mine", scoring), ("MIX", of_oracles)}
    assert made.scoring == scoring


@pytest.mark.parametrize(
    ("target", "stem", "rest"),
    [
        ("vocals", "vocals", "accompaniment"),
        ("drums", "drums", "no_drums"),
        ("accompaniment", "vocals", "vocals"),
        ("no_bass", "bass", "bass"),
    ],
)
@pytest.mark.parametrize("kind", [folder, model])
def test_a_single_target_is_scored_against_the_rest_and_so_are_the_oracles(
    kind: Callable[..., Estimates | FromModel], target: str, stem: str, rest: str
) -> None:
    made = plan(kind(target), oracles=["MIX"])
    paired = replace(PLAIN, against_rest=(stem,))
    mine, *others, oracle = [*made.in_turn, *made.side_by_side]
    assert isinstance(mine.estimates, AgainstRest)
    assert (mine.estimates.target, mine.estimates.rest) == (target, rest)
    assert oracle.estimates == Oracle("MIX", (*({target, rest} - {stem}),))
    assert {job.scoring for job in (mine, *others, oracle)} == {made.scoring} == {paired}
    # Where the stems have such names already, the rest has another one.
    made = plan(kind("vocals"), stems=("vocals", "drums", "accompaniment"))
    (first, *_) = (*made.in_turn, *made.side_by_side)
    assert getattr(first.estimates, "rest", None) == "no_vocals"


@pytest.mark.parametrize(
    ("stems", "rests"),
    [
        (("speech", "music"), {"speech": "music", "music": "speech"}),
        (("drums", "no_drums"), {"drums": "no_drums", "no_drums": "drums"}),
        (("vocals", "no_vocals"), {"vocals": "no_vocals", "no_vocals": "vocals"}),
        (("vocals", "instrumental"), {"vocals": "instrumental", "instrumental": "vocals"}),
    ],
)
def test_of_two_stems_that_are_all_one_is_scored_with_the_other(
    stems: tuple[str, str], rests: dict[str, str]
) -> None:
    for target, rest in rests.items():
        made = plan(folder(target), stems=stems, oracles=["UNPROCESSED"])
        first, *_, oracle = made.side_by_side
        assert getattr(first.estimates, "rest", None) == rest
        assert oracle.estimates == Oracle("UNPROCESSED")
    # Where the mixture holds more than two stems, all else is the rest.
    some = [replace(track, is_complete=False) for track in TRACKS]
    made = plan(folder("vocals"), tracks=some, stems=("vocals", "drums"))
    assert getattr(made.side_by_side[0].estimates, "rest", None) == "accompaniment"


def test_a_rest_of_no_stem_is_named() -> None:
    with pytest.raises(UserError, match=r"no_piano: neither a stem of the corpus nor the rest"):
        rest_of("no_piano", STEMS)


@pytest.mark.parametrize(
    ("found", "stale"),
    [
        # What a folder's unknown tracks left says why it is not scored; a model knows none.
        (folder("vocals"), ["test/Gone.json"]),
        (model("vocals"), ["test/Gone.json", "unscored/Strange.json"]),
    ],
    ids=["folder", "model"],
)
def test_files_of_tracks_that_are_gone_go(found: Estimates | FromModel, stale: list[str]) -> None:
    names = ["test/One.json", "unscored/Three.json", *sorted({*stale, "unscored/Strange.json"})]
    made = plan(found, there=[f"mine/{name}" for name in names])
    assert made.stale == tuple(f"gs://b/out/mine/{name}" for name in stale)
