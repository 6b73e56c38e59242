import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import museval
import numpy as np
import pandas as pd
import pytest

from stemforge.eval.scoring import scores
from stemforge.eval.scoring.scores import METRICS, Remark, Scoring
from stemforge.pipelines.scoring.methods import AgainstRest, TrackTruth
from tests.conftest import RATE_HZ, ROOT

SCORING = Scoring(window_s=1.0, hop_s=1.0, nan_policy="museval", accompaniment=False)
Stems = dict[str, np.ndarray]


@dataclass(frozen=True)
class Given:
    """A method whose estimates are given."""

    estimates: Stems
    key: str = ""
    files: tuple[str, ...] = ()

    def estimate(self, truth: TrackTruth) -> tuple[Stems, list[Remark]]:
        return dict(self.estimates), []


@pytest.fixture
def stems(random: np.random.Generator) -> Stems:
    names = ("vocals", "drums", "bass")
    return {name: random.normal(0, 0.1, (2 * RATE_HZ, 2)).astype(np.float32) for name in names}


@pytest.fixture
def estimates(stems: Stems, random: np.random.Generator) -> Stems:
    return {k: v + random.normal(0, 0.01, v.shape).astype(np.float32) for k, v in stems.items()}


def score(references: Stems, estimates: Stems, scoring: Scoring = SCORING) -> scores.TrackScores:
    return scores.score_track(
        "song", references, estimates, sample_rate_hz=RATE_HZ, scoring=scoring
    )


def musevals(references: Stems, estimates: Stems) -> dict[str, dict[str, list[float]]]:
    """museval.eval_mus_track of a track that musdb would have."""
    others = [stem for name, stem in references.items() if name != "vocals"]
    targets = references | {"accompaniment": np.sum(others, axis=0)}
    track = SimpleNamespace(
        name="song",
        subset="test",
        rate=RATE_HZ,
        targets={name: SimpleNamespace(audio=audio) for name, audio in targets.items()},
    )
    found = museval.eval_mus_track(track, estimates).scores["targets"]
    return {
        t["name"]: {m: [float(f["metrics"][m]) for f in t["frames"]] for m in METRICS}
        for t in found
    }


def written(found: scores.TrackScores) -> scores.TrackScores:
    """As a reader of the JSON has them: museval keeps five decimals."""
    return scores.from_json("song", scores.to_json(found, scoring=SCORING, inputs="x").encode())


def test_scores_are_musevals(stems: Stems, estimates: Stems) -> None:
    found = score(stems, estimates)
    assert found.remarks == ()
    assert written(found).frames == musevals(stems, estimates)
    # Noise 20 dB below the stem, and 512 filter taps cannot undo it.
    assert 19 < np.median(found.frames["vocals"]["SDR"]) < 22
    assert found.whole["vocals"]["uSDR"] == pytest.approx(20.0, abs=0.2)


def test_an_accompaniment_is_scored_as_a_pair_with_the_vocals(
    stems: Stems, estimates: Stems
) -> None:
    together = {"accompaniment": estimates["drums"] + estimates["bass"]}
    paired = musevals(stems, estimates | together)
    assert list(paired) == ["drums", "bass", "vocals", "accompaniment"]
    found = written(score(stems, estimates | together))
    assert found.frames == paired
    assert list(found.frames) == list(paired)
    # Derived: the sum of the others' estimates.
    derived = Scoring(1.0, 1.0, "museval", accompaniment=True)
    assert written(score(stems, estimates, derived)).frames == paired
    # A method of two stems.
    two = {"vocals": estimates["vocals"]} | together
    assert written(score(stems, two)).frames == musevals(stems, two)


def test_a_single_stem_is_scored_as_a_pair_with_the_rest(stems: Stems, estimates: Stems) -> None:
    """museval knows the pair of drums and no_drums under the names vocals and accompaniment."""
    mixture = np.sum([*stems.values()], axis=0, dtype=np.float32, keepdims=True)[0]
    method = AgainstRest(Given({"drums": estimates["drums"]}), "drums", "no_drums")
    pair, remarks = method.estimate(TrackTruth(mixture, stems, RATE_HZ))
    assert remarks == []
    found = written(score(stems, pair)).frames
    others = {"vocals": stems["drums"], "accompaniment": stems["vocals"] + stems["bass"]}
    rest = mixture - estimates["drums"]
    theirs = musevals(others, {"vocals": estimates["drums"], "accompaniment": rest})
    assert found == {"drums": theirs["vocals"], "no_drums": theirs["accompaniment"]}
    assert found["drums"]["SIR"] != musevals(stems, estimates)["drums"]["SIR"]
    # Oracles have all stems; their rest is the sum of the other estimates.
    paired = Scoring(1.0, 1.0, "museval", accompaniment=False, against_rest=("drums",))
    sums = {"vocals": estimates["drums"], "accompaniment": estimates["vocals"] + estimates["bass"]}
    all_found = written(score(stems, estimates, paired)).frames
    theirs = musevals(others, sums)
    assert all_found["drums"] == theirs["vocals"]
    assert all_found["no_drums"] == theirs["accompaniment"]
    assert all_found["bass"] == musevals(stems, estimates)["bass"]


def test_the_rest_of_some_stems_is_all_else_in_the_mixture(stems: Stems, estimates: Stems) -> None:
    """Of a mixture of three stems two are listed; museval is given the third in the rest."""
    mixture = stems["vocals"] + stems["drums"] + stems["bass"]
    listed = {name: stems[name] for name in ("vocals", "drums")}
    mine = {name: estimates[name] for name in listed}
    truth = {"vocals": stems["vocals"], "accompaniment": mixture - stems["vocals"]}
    theirs = musevals(truth, {"vocals": mine["vocals"], "accompaniment": mixture - mine["vocals"]})

    def pair(found: Stems, **changes: Any) -> dict[str, Any]:
        scored = scores.score_track(
            *("song", listed, found),
            sample_rate_hz=RATE_HZ,
            scoring=dataclasses.replace(SCORING, **changes),
            mixture=mixture,
        )
        assert scored.remarks == ()
        frames = written(scored).frames
        return {name: frames[name] for name in ("vocals", "accompaniment")}

    method = AgainstRest(Given({"vocals": mine["vocals"]}), "vocals", "accompaniment")
    single, _ = method.estimate(TrackTruth(mixture, listed, RATE_HZ))
    assert pair(single) == theirs
    # The same for oracles and for the derived accompaniment, whose methods have all listed stems.
    assert pair(mine, against_rest=("vocals",)) == theirs
    assert pair(mine, accompaniment=True) == theirs


def test_of_two_stems_that_are_all_the_rest_of_one_is_the_other(
    stems: Stems, estimates: Stems
) -> None:
    both = {"speech": "vocals", "music": "drums"}
    truth = {name: stems[source] for name, source in both.items()}
    mine = {name: estimates[source] for name, source in both.items()}
    paired = dataclasses.replace(SCORING, against_rest=("speech",))
    found = score(truth, mine, paired).frames
    assert found == score(truth, mine).frames
    assert [*found] == ["speech", "music"]  # no third, such as no_speech


def test_a_rest_is_not_scored_with_stems_that_it_contains(stems: Stems, estimates: Stems) -> None:
    rest = {"no_drums": estimates["vocals"] + estimates["bass"]}
    two = {name: estimates[name] for name in ("vocals", "bass")}
    found = score(stems, two | rest)
    assert found.frames == score(stems, two).frames
    (remark,) = found.remarks
    assert (remark.target, remark.reason) == ("no_drums", "too_few")
    assert remark.detail.startswith("scored only as a pair with drums, which has no estimate")


def test_silent_targets_are_left_out_with_a_remark(stems: Stems, estimates: Stems) -> None:
    stems["bass"] = np.zeros_like(stems["bass"])
    found = score(stems, estimates)
    silent = Remark("bass", "silent_reference", "its reference is silent")
    assert found.remarks == (silent,)
    others = {name: stems[name] for name in ("vocals", "drums")}
    assert found.frames == score(others, estimates).frames
    table = scores.frame_table([("m", found)])
    (bass,) = table[table["target"] == "bass"].to_dict("records")
    assert np.isnan(bass["SDR"])
    assert bass["reason"] == "silent_reference"
    estimates["drums"] = np.zeros_like(estimates["drums"])
    reasons = [(remark.target, remark.reason) for remark in score(stems, estimates).remarks]
    assert reasons == [("drums", "silent_estimate"), ("bass", "silent_reference")]


def test_missing_estimates_are_left_out_as_museval_does(stems: Stems, estimates: Stems) -> None:
    some = {name: estimates[name] for name in ("vocals", "bass")}
    assert written(score(stems, some)).frames == musevals(stems, some)
    alone = score(stems, {"vocals": estimates["vocals"]})
    assert alone.frames == {}
    assert [remark.reason for remark in alone.remarks] == ["too_few"]


def test_json_is_loaded_by_musevals_own_stores(
    stems: Stems, estimates: Stems, tmp_path: Path
) -> None:
    found = score(stems, estimates)
    text = scores.to_json(found, scoring=SCORING, inputs="abc")
    folder = tmp_path / "model" / "test"
    folder.mkdir(parents=True)
    (folder / "song.json").write_text(text)
    store = museval.EvalStore()
    store.add_eval_dir(str(tmp_path / "model"))
    theirs = store.df.groupby(["target", "metric"]).score.median()
    methods = museval.MethodStore()
    methods.add_eval_dir(str(tmp_path / "model"))
    assert set(methods.df["method"]) == {"model"}
    ours = scores.frame_table([("model", found)]).groupby("target")
    for target in stems:
        for metric in METRICS:
            assert ours[metric].median()[target] == pytest.approx(theirs[target, metric], abs=1e-5)
    assert json.loads(text)["targets"][0]["frames"][1]["time"] == 1.0
    assert scores.read_inputs(text.encode()) == "abc"


def test_json_is_what_museval_would_write(stems: Stems, estimates: Stems) -> None:
    found = score(stems, estimates)
    found.frames["drums"]["SDR"][0] = np.inf
    store = museval.TrackStore("song", win=SCORING.window_s, hop=SCORING.hop_s)
    for target, metrics in found.frames.items():
        store.add_target(target, metrics)
    ours = json.loads(scores.to_json(found, scoring=SCORING, inputs="abc"))
    del ours[scores.OURS]
    assert json.dumps(ours) == json.dumps(json.loads(store.json))
    shipped = json.loads((ROOT / "eval" / "scoring" / "museval.schema.json").read_text())
    assert shipped == store.schema


def test_json_keeps_everything(stems: Stems, estimates: Stems) -> None:
    estimates["bass"] = np.zeros_like(estimates["bass"])
    found = score(stems, estimates)
    back = written(found)
    assert back.remarks == found.remarks
    assert back.whole["vocals"] == pytest.approx(found.whole["vocals"], abs=1e-5, nan_ok=True)
    table = scores.whole_table([("m", back)])
    assert list(table["target"]) == ["bass", "drums", "vocals"]


def test_frames_that_rounding_decides(stems: Stems, estimates: Stems) -> None:
    """A bass that is mono but for a side 150 dB below; museval's and our ISR differ there."""
    side = 10 ** (-150 / 20) * stems["bass"][:, 1]
    references: Stems = {name: stems[name].astype(np.float64) for name in ("drums", "bass")}
    references["bass"][:, 1] = references["bass"][:, 0] + side
    kept = score(references, estimates)
    assert all(kept.undetermined["bass"])
    drop = dataclasses.replace(SCORING, undetermined="drop")
    dropped = score(references, estimates, drop)
    assert dropped.frames["bass"]["SDR"] == kept.frames["bass"]["SDR"]
    assert np.isfinite(kept.frames["bass"]["ISR"]).all()
    assert np.isnan([dropped.frames["bass"][metric] for metric in ("ISR", "SIR", "SAR")]).all()


def test_undetermined_frames_are_kept_in_json_and_table(stems: Stems, estimates: Stems) -> None:
    found = dataclasses.replace(
        score(stems, estimates), undetermined={"drums": [False, True], "bass": [False, False]}
    )
    assert written(found).undetermined == found.undetermined
    ours = json.loads(scores.to_json(found, scoring=SCORING, inputs="abc"))[scores.OURS]
    assert ours["undetermined"] == {"drums": [1], "bass": []}
    column = scores.frame_table([("m", written(found))])["undetermined"]
    assert column.tolist() == [False, False, False, True, pd.NA, pd.NA]  # vocals: not known
    old = {"targets": [], scores.OURS: {"fallbacks": 3}}  # of a version before
    assert scores.from_json("song", json.dumps(old).encode()).undetermined == {}


def test_a_perfect_estimate_is_said_to_be_that(stems: Stems, estimates: Stems) -> None:
    found = score(stems, estimates | {"drums": stems["drums"].copy()})
    (remark,) = found.remarks
    assert (remark.target, remark.reason) == ("drums", "perfect")
    assert np.isposinf(found.frames["drums"]["SDR"]).all()
    assert np.isnan(written(found).frames["drums"]["SDR"]).all()  # as museval writes it


def test_infinite_scores_of_others_are_musevals_nan(stems: Stems, estimates: Stems) -> None:
    """museval writes NaN for them; it ranks them neither first nor last."""
    ours = json.loads(scores.to_json(score(stems, estimates), scoring=SCORING, inputs="abc"))
    drums = next(target for target in ours["targets"] if target["name"] == "drums")
    drums["frames"][0]["metrics"]["SDR"] = np.inf
    drums["frames"][1]["metrics"]["SIR"] = -np.inf
    drums["frames"][1]["metrics"]["SAR"] = np.nan
    ours[scores.OURS]["whole"]["drums"]["SI_SDR"] = np.inf
    back = scores.from_json("song", json.dumps(ours).encode())
    assert np.isnan(back.frames["drums"]["SDR"][0])
    assert np.isnan(back.frames["drums"]["SIR"][1])
    assert np.isfinite(back.frames["drums"]["SDR"][1])
    assert np.isnan(back.whole["drums"]["SI_SDR"])
    detail = "2 infinite scores, left out as museval does"
    assert back.remarks == (Remark("drums", "non_finite", detail),)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "{}",
            '{"targets": [{"name": "vocals"}]}',
            '{"targets": [{"frames": [1]}]}',
        ),
        '{"targets": [{"name": "a", "frames": []}, {"name": "a", "frames": []}]}',
        '{"targets": [], "stemforge": []}',
        '{"targets": [], "stemforge": {"remarks": [{"target": "a"}]}}',
        '{"targets": [], "stemforge": {"whole": {"a": {"PES": "1"}}}}',
        '{"targets": [], "stemforge": {"scoring": {"window_s": [1]}}}',
        '{"targets": [{"name": "a", "frames": [{"metrics": {"SDR": 1'
        f"{'0' * 400}"
        ', "SIR": 1, "SAR": 1, "ISR": 1}}]}]}',
    ],
    ids=range(12),
)
def test_json_of_others_that_is_broken(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not (JSON|museval's): .{5,150}$"):
        scores.from_json("song", text.encode())
    assert scores.read_inputs(text.encode()) is None
