"""`stemforge score` and `import-scores` on real files, with what users get wrong."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import museval
import numpy as np
import pandas as pd
import pytest
import soundfile

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.leaderboard import published
from stemforge.eval.leaderboard.board import Leaderboard
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.scores import METRICS, Remark, Scoring, TrackScores
from stemforge.features.corpus.musdb18 import recognise_test_set, with_stems
from stemforge.features.corpus.sources import parts_of
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.scoring.execution import check_done, score_elsewhere
from stemforge.pipelines.scoring.methods import Oracle
from stemforge.pipelines.scoring.plan import Job, TrackSources
from stemforge.pipelines.scoring.score_files import list_scores, read_scores, scores_place
from stemforge.train.model import Model, save_model
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ
from tests.processes import environment, google_storage

STEMS = ("vocals", "drums", "bass", "other")
TRACKS = ("A - One", "B - Two", "C - Three")
SAMPLES = 2 * RATE_HZ + 500


def write(path: Path, waveform: np.ndarray, *, rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate_hz, subtype="FLOAT")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MUSDB18-HQ's layout: three test tracks of noise of 2 s. Read only."""
    root = tmp_path_factory.mktemp("hq")
    for number, track in enumerate(TRACKS):
        random = np.random.default_rng(number)
        stems = {name: random.normal(0, 0.1, (SAMPLES, 2)) for name in STEMS}
        stems["mixture"] = np.sum([*stems.values()], axis=0)
        for name, waveform in stems.items():
            write(root / "test" / track / f"{name}.wav", waveform)
    return root


@pytest.fixture
def estimates(corpus: Path, in_tmp: Path) -> Path:
    """The stems with noise, in the layout of `stemforge separate`."""
    folder = in_tmp / "mine"
    for number, track in enumerate(TRACKS):
        random = np.random.default_rng(100 + number)
        for name in STEMS:
            true, _ = soundfile.read(corpus / "test" / track / f"{name}.wav")
            write(folder / track / f"{name}.wav", true + random.normal(0, 0.02, true.shape))
    return folder


def run(*arguments: object, code: int = 0) -> None:
    assert cli.main([str(a) for a in arguments]) == code


TWO = ("--stems", "vocals,drums")  # an eighth of the work, where the stems are not the point


def score(estimates: Path, corpus: Path, *more: object, code: int = 0) -> pd.DataFrame:
    run("score", estimates, "--corpus", corpus, "--output", "scores", *more, code=code)
    return pd.read_parquet("scores/scores.parquet")


def test_estimates_are_never_touched(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores do not go among them, and only files of scores are ever taken for old ones."""
    run("score", estimates, "--corpus", corpus, "--output", estimates.parent, code=2)
    assert "would be mixed with its estimates: choose another folder" in capsys.readouterr().err
    folder = Path("scores/ours/test")
    folder.mkdir(parents=True)
    for name in (
        *("One.json", "One.wav", ".Two.json.tmp", "../One/vocals.wav", "../notes.txt"),
        *("._One.json", "../../.old/test/One.json", "../../__MACOSX/test/One.json"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert list_scores("scores") == [("ours", "ours/test/One.json")]


def test_a_folder_of_estimates(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = score(estimates, corpus, "--oracles", "UNPROCESSED,MIX")
    store = museval.EvalStore()
    store.add_eval_dir("scores/mine")
    assert set(store.df["track"]) == set(TRACKS)
    theirs = store.agg_frames_tracks_scores()
    leaderboard = pd.read_csv("scores/leaderboard.csv").set_index(["method", "target"])
    for target in STEMS:
        for metric in METRICS:
            value = leaderboard.loc[("mine", target), metric]
            assert value == pytest.approx(theirs[target, metric], abs=1e-3)
    assert set(table["method"]) == {"mine", "UNPROCESSED", "MIX"}
    assert set(table["frame"]) == {0, 1}
    # 14 dB by construction; the mixture holds three stems of the same level beside each.
    assert leaderboard.loc[("mine", "vocals"), "SDR"] == pytest.approx(14.0, abs=0.3)
    assert leaderboard.loc[("UNPROCESSED", "vocals"), "SDR"] == pytest.approx(-4.8, abs=0.3)
    # A quarter of it: |s|^2 / (9/16 |s|^2 + 3/16 |s|^2).
    assert leaderboard.loc[("MIX", "vocals"), "SDR"] == pytest.approx(1.25, abs=0.3)
    metrics = json.loads(Path("scores/metrics.json").read_text())
    assert metrics["mine"]["vocals"]["uSDR"] == pytest.approx(14.0, abs=0.3)
    said = capsys.readouterr().out.splitlines()
    page = Path("scores/leaderboard.md").read_text()
    assert said[-1] == "All metrics, intervals and tests: scores/leaderboard.md"
    assert said[2].startswith("3 test tracks. BSSEval v4 as in museval, median over frames")
    assert said[2] in page
    # Of the page's two tables only the one of SDRs: a header and three methods.
    assert [line.split()[0] for line in said[4:-2]] == ["SDR,", "mine", "MIX", "UNPROCESSED"]
    assert "| mine | vocals |" in page
    for name in ("leaderboard.tex", "leaderboard.parquet", "boxplots/vocals.svg"):
        assert Path("scores", name).is_file()


def test_bad_estimates_are_named_and_the_rest_is_scored(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (estimates / track for track in TRACKS)
    (one / "vocals.wav").unlink()
    true, _ = soundfile.read(one / "drums.wav")
    write(one / "drums.wav", true[:-7])
    write(one / "bass.wav", np.concatenate([true, true]))
    write(one / "other.wav", true[:, :1])
    write(two / "drums.wav", true, rate_hz=48000)
    write(two / "bass.wav", np.zeros_like(true))
    true[5] = np.nan
    write(two / "other.wav", true)
    for stem in STEMS:
        (three / f"{stem}.wav").unlink()
        write(estimates / "D - Four" / f"{stem}.wav", true)
    table = score(estimates, corpus, code=1)
    said = capsys.readouterr().err
    found = table[table["reason"] != ""].drop_duplicates(["track", "target"])
    reasons = {(row.track, row.target): row.reason for row in found.itertuples()}
    assert reasons == {
        ("A - One", "vocals"): "missing",
        ("A - One", "drums"): "padded",
        ("A - One", "bass"): "cut",
        ("A - One", "other"): "mono",
        ("B - Two", "drums"): "sample_rate",
        ("B - Two", "bass"): "silent_estimate",
        ("B - Two", "other"): "non_finite",
        **{("C - Three", stem): "missing" for stem in STEMS},
        ("D - Four", ""): "unknown_track",
    }
    for (track, _), reason in reasons.items():
        assert f"score: mine: {track}" in said or reason == "missing"
        assert f": {reason}: " in said
    assert said.count(": missing: no estimate of") == 4
    assert "score: missing: and 1 more, in scores/leaderboard.md\n" in said
    assert "stemforge: 12 estimates were missing or had a problem" in said
    scored = set(map(tuple, table.dropna(subset="SDR")[["track", "target"]].to_numpy()))
    assert scored == {("A - One", t) for t in STEMS[1:]} | {("B - Two", "vocals")}
    page = Path("scores/leaderboard.md").read_text()
    assert "| C - Three | bass | missing | no estimate of bass" in page
    # museval's own stores still load the folder.
    store = museval.EvalStore()
    store.add_eval_dir("scores/mine")
    assert set(store.df["track"]) == {"A - One", "B - Two"}


def test_a_target_that_no_track_has_is_a_dash(
    corpus: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silent vocals in the corpus, and the accompaniment named as a stem."""
    song = corpus / "test" / TRACKS[0]
    for source, name in (("mixture", "mixture"), ("drums", "drums"), ("bass", "accompaniment")):
        true, _ = soundfile.read(song / f"{source}.wav")
        write(in_tmp / "c" / "test" / "One" / f"{name}.wav", true)
        if name != "mixture":
            write(in_tmp / "mine" / "One" / f"{name}.wav", 0.9 * true)
    for folder in ("c/test", "mine"):
        write(in_tmp / folder / "One" / "vocals.wav", np.zeros_like(true))
    stems = ("--stems", "vocals,drums,accompaniment", "--nan-policy", "per_source")
    score(Path("mine"), Path("c"), *stems)
    page = Path("scores/leaderboard.md").read_text()
    assert "| SDR, dB | vocals (0 tracks, 1 without a score) | drums (1 track) | acc" in page
    assert "| mine | - | **20.00** | **20.00** |" in page  # a tenth of the stem is missing
    assert Path("scores/boxplots/vocals.svg").is_file()


def test_perfect_estimates_are_said_to_be_that(
    corpus: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """museval writes their infinite SDR as NaN."""
    shutil.copytree(corpus / "test", "true")
    run("score", "true", "--corpus", corpus, "--output", "scores", *TWO, code=2)
    said = capsys.readouterr().err
    assert "vocals: perfect: its estimate equals its reference: SDR is infinite" in said
    assert said.splitlines()[-1] == (
        "stemforge: error: no table: every estimate that could be scored equals its reference, so "
        "that its SDR is infinite: score estimates that are not the true stems"
    )


def test_two_files_of_scores_for_one_track(in_tmp: Path) -> None:
    for place in ("m/test/Caf\u00e9.json", "m/unscored/Cafe\u0301.json"):
        storage.write_bytes(f"scores/{place}", b"{")
    (one,) = read_scores("scores", ["m"])  # a run was killed while it replaced the second
    assert one[1].track == "Caf\u00e9"
    assert scores_place("scores", "m", "test", "Cafe\u0301") == "scores/m/test/Caf\u00e9.json"
    storage.write_bytes("scores/m/test/Cafe\u0301.json", b"{")
    with pytest.raises(UserError, match="are of one track: remove one"):
        read_scores("scores", ["m"])


def test_nothing_to_score(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        run("score", *arguments, code=2)
        return capsys.readouterr().err

    lead = refused(estimates, "--corpus", corpus, "--output", "s", "--stems", "lead vocals,bass")
    assert "--stems 'lead vocals': not a valid name of a stem: use up to 64 letters" in lead

    here = ("--corpus", corpus, "--output", "scores")
    assert "nowhere: no such folder" in refused("nowhere", *here)
    assert "--corpus nowhere: no such folder" in refused(
        estimates, "--corpus", "nowhere", "--output", "scores"
    )
    assert "neither of ESTIMATES and --model given" in refused(*here)
    assert "both of ESTIMATES and --model given" in refused(estimates, "--model", "m", *here)
    assert "--oracles IRM3: not an oracle: use all or some of UNPROCESSED, MIX" in refused(
        estimates, *here, "--oracles", "IRM3"
    )
    assert "--baseline TAK1: must be one of mine" in refused(estimates, *here, "--baseline", "TAK1")
    assert "--name MIX: this is the name of an oracle" in refused(estimates, *here, "--name", "MIX")
    assert "'../x': not a valid method name" in refused(estimates, *here, "--name", "../x")
    assert "--stems 'a,,b': an empty name" in refused(estimates, *here, "--stems", "a,,b")
    assert "--stems a,A: A is there twice" in refused(estimates, *here, "--stems", "a,A")
    assert "--window-s 0.0: must be more than 0" in refused(estimates, *here, "--window-s", "0")
    assert "--confidence 1.0: must be between" in refused(estimates, *here, "--confidence", "1")
    assert not Path("scores").exists()
    for path in estimates.rglob("*.wav"):
        path.write_bytes(b"no audio")
    assert "mine: nothing could be scored" in refused(estimates, *here)


def test_a_track_that_is_scored_is_not_scored_again(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(estimates, corpus, *TWO)
    paths = {track: Path(f"scores/mine/test/{track}.json") for track in TRACKS}
    before = {track: (path.stat().st_mtime_ns, path.read_bytes()) for track, path in paths.items()}
    paths["A - One"].unlink()
    louder, _ = soundfile.read(estimates / "B - Two" / "drums.wav")
    write(estimates / "B - Two" / "drums.wav", 1.1 * louder)
    paths["C - Three"].with_name("Gone.json").write_text("{")  # of another corpus
    score(estimates, corpus, *TWO)
    after = {track: (path.stat().st_mtime_ns, path.read_bytes()) for track, path in paths.items()}
    assert after["C - Three"] == before["C - Three"]
    assert after["A - One"][1] == before["A - One"][1]
    assert after["B - Two"][1] != before["B - Two"][1]
    assert not paths["C - Three"].with_name("Gone.json").exists()
    # Another policy is another score, and not one to compare with; another hop is not compared.
    score(estimates, corpus, *TWO, "--name", "again", "--nan-policy", "per_source")
    said = capsys.readouterr().err
    assert "score: mine: scored with nan_policy=museval, not per_source: do not compare" in said
    assert "left out" not in said
    table = score(estimates, corpus, *TWO, "--hop-s", "0.5")
    assert (
        "score: again: A - One: other_test_set: frames of 1 s, here of 1 s every 0.5 s: left out\n"
        in capsys.readouterr().err
    )
    assert set(table.dropna(subset="SDR")["method"]) == {"mine"}
    assert paths["C - Three"].read_bytes() != before["C - Three"][1]


@pytest.mark.system
def test_a_killed_run_goes_on(estimates: Path, corpus: Path) -> None:
    command = [
        *(
            sys.executable,
            "-c",
            "from stemforge.pipelines.commands.main import run; run()",
            "score",
            str(estimates),
        ),
        *("--corpus", str(corpus), "--output", "scores", "--processes", "1"),
    ]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    folder = Path("scores/mine/test")
    while process.poll() is None and not list(folder.glob("[!.]*.json")):
        pass
    process.kill()
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*.json")}
    assert done
    table = score(estimates, corpus)
    assert set(table["track"]) == set(TRACKS)
    assert not table["SDR"].isna().any()
    assert {n: (folder / n).stat().st_mtime_ns for n in done} == done


def test_beam_writes_the_same_bytes(
    estimates: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(estimates, corpus, *TWO, "--oracles", "IRM1")
    here = {p.name: p.read_bytes() for p in Path("scores").glob("*/test/*.json")}
    assert len(here) == 3
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", "--runner=FnApiRunner")
    Path("scores").rename("local")
    score(estimates, corpus, *TWO, "--oracles", "IRM1")
    for path in Path("local").rglob("*.*"):
        assert path.read_bytes() == (Path("scores") / path.relative_to("local")).read_bytes()


@pytest.mark.parametrize("oracles", [[], ["--oracles", "IRM1"]])
def test_dataflow_is_refused_what_its_workers_cannot_see(
    estimates: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], oracles: list[str],
) -> None:  # fmt: skip
    flags = "--project=my-project --region=r --temp_location=gs://my-bucket/tmp --setup_file=s"
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", f"--runner=DataflowRunner {flags}")
    command = ["score", str(estimates), "--corpus", str(corpus), "--output", "scores", *oracles]
    assert cli.main(command) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "a folder of this machine, which Dataflow's workers cannot see" in line
    assert line.endswith("use gs://... places, or unset STEMFORGE_BEAM_ARGS")


def test_a_worker_that_does_not_see_the_folders_is_an_error(tmp_path: Path) -> None:
    track = TrackSources("One", lambda: nullcontext({}), (str(tmp_path / "corpus" / "One.wav"),))
    job = Job(
        "IRM1",
        track,
        Oracle("IRM1"),
        Scoring(1.0, 1.0, "museval", accompaniment=False),
        str(tmp_path),
    )
    with pytest.raises(UserError, match=r"worker .*/corpus: no such folder here: use places that"):
        score_elsewhere(job, 1)
    with pytest.raises(UserError, match="the workers left no scores of IRM1 for One here"):
        check_done([job])


@pytest.mark.system
def test_two_processes_write_the_same_bytes(estimates: Path, corpus: Path) -> None:
    score(estimates, corpus, *TWO, "--oracles", "IRM1")
    Path("scores").rename("local")
    score(estimates, corpus, *TWO, "--oracles", "IRM1", "--processes", "2")
    files = [path for path in Path("local").rglob("*.*") if path.is_file()]
    assert len(files) > 2 * len(TRACKS)
    for path in files:
        assert path.read_bytes() == (Path("scores") / path.relative_to("local")).read_bytes()


def test_others_scores_are_brought_in(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(estimates, corpus, *TWO)
    theirs = Path("theirs/test")
    theirs.mkdir(parents=True)
    for track in TRACKS:
        museval_only = json.loads(Path(f"scores/mine/test/{track}.json").read_text())
        del museval_only["stemforge"]
        for target in museval_only["targets"]:
            for frame in target["frames"]:
                frame["metrics"]["SDR"] += 2.0
        text = json.dumps(museval_only)  # with a byte order mark, as Windows writes it
        (theirs / f"{track}.json").write_text(text, encoding="utf-8-sig")
    (theirs / "C - Three.json").write_text('{"targets": [')
    (theirs / "._A - One.json").write_bytes(b"\0")  # macOS'
    run("import-scores", "TAU9", "theirs", "--output", "scores", code=1)
    said = capsys.readouterr().err
    assert "C - Three.json: not JSON: Expecting value" in said
    assert "2 tracks in scores/TAU9" in said
    assert "1 of 3 files were left out" in said
    run("import-scores", "TAU9", "theirs", "--output", "memory://bucket/scores", code=1)
    copied = storage.list_files("memory://bucket/scores")
    assert copied == [
        f"TAU9/test/{path.name}" for path in sorted(Path("scores/TAU9/test").iterdir())
    ]
    for place in copied:
        there = Path("scores", place).read_bytes()
        assert storage.read_bytes(f"memory://bucket/scores/{place}") == there
    score(estimates, corpus, *TWO, "--baseline", "TAU9")
    found = pd.read_csv("scores/leaderboard.csv").set_index(["method", "target"])
    assert found.loc[("TAU9", "drums"), "tracks"] == 2
    Path("scores/TAU9/test/C - Three.json").write_text("{")
    score(estimates, corpus, *TWO, code=1)
    assert "score: TAU9: C - Three: not_scored: TAU9/test/C - Three" in capsys.readouterr().err
    assert found.loc[("TAU9", "drums"), "SDR"] == pytest.approx(16.0, abs=0.4)
    assert np.isnan(found["uSDR"][("TAU9", "drums")])
    assert not np.isnan(found["p_value"][("mine", "drums")])
    for arguments, message in (
        (["TAU9", "nowhere"], "nowhere: no such folder"),
        (["TAU9", str(estimates)], "no JSON file"),
        (["IRM1", "theirs"], "IRM1: this name is reserved for an oracle"),
    ):
        run("import-scores", *arguments, code=2)
        assert message in capsys.readouterr().err


def test_scores_of_whole_songs_do_not_compete_with_those_of_excerpts(
    estimates: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files as SiSEC 2018's: museval's, without our own part; the corpus has 2 frames a song."""
    folder = Path("scores/TAU9/test")
    folder.mkdir(parents=True)
    for track, frames in (*((track, 209) for track in TRACKS), ("D - Four", 2)):
        metrics = dict.fromkeys(METRICS, 99.0)
        rows = [{"time": float(n), "duration": 1.0, "metrics": metrics} for n in range(frames)]
        targets = [{"name": name, "frames": rows} for name in ("vocals", "drums")]
        (folder / f"{track}.json").write_text(json.dumps({"targets": targets}))
    score(estimates, corpus, *TWO)
    said = capsys.readouterr().err
    assert (
        "score: TAU9: A - One: other_test_set: 209 frames of 1 s, here 2: of another test set: "
        "left out\n" in said
    )
    assert "TAU9: D - Four: other_test_set: no test track of this corpus: left out\n" in said
    table = pd.read_csv("scores/leaderboard.csv")
    assert set(table["method"]) == {"mine"}
    assert "| B - Two |  | other_test_set | 209 frames" in Path("scores/leaderboard.md").read_text()


def fake_scores(tracks: list[str]) -> list[tuple[str, TrackScores]]:
    random = np.random.default_rng(0)
    return [
        ("ours", TrackScores(track, {"vocals": {m: [random.normal(6.0)] for m in METRICS}}))
        for track in tracks
    ]


def make_table(songs: list[str], **changes: Any) -> Leaderboard:
    aggregation: dict[str, Any] = {
        **{"frames": "median", "tracks": "median", "baseline": "ours"},
        **{"confidence": 0.95, "resamples": 99, "seed": 1},
    }
    context = changes.pop("context", None)
    test_set = changes.pop("test_set", recognise_test_set({}, wavs=False))
    how = Scoring(
        *(1.0, 1.0, changes.pop("nan_policy", "museval")),
        accompaniment=False,
        undetermined=changes.pop("undetermined", "keep"),
    )
    return Leaderboard(
        [*fake_scores(songs), *changes.pop("more", ())],
        stems=STEMS,
        aggregation=Aggregation(**aggregation | changes),
        how=how,
        test_set=test_set,
        context=context,
    )


MUSDB18_S = {
    str(t): f + 0.5 for t, f in published.sisec18().groupby("track")["frames"].min().items()
}


def test_sisec18_joins_where_the_tracks_are_musdb18s(in_tmp: Path) -> None:
    test_set = recognise_test_set(MUSDB18_S, wavs=False)
    table = make_table([*MUSDB18_S], test_set=test_set)
    rows = table.table.set_index(["method", "target"])
    assert len(rows) == 1 + 31 + 5  # all of them have vocals, and nothing else was scored
    assert rows["p_value"][("IRM1 (SiSEC 2018)", "vocals")] < 0.05
    assert rows.loc[("Demucs (published)", "vocals"), "SDR"] == 7.05
    assert set(table.table["test_set"]) == {""}
    table.write(in_tmp, introduction=["I."], metrics_of=["ours"])
    page = (in_tmp / "leaderboard.md").read_text()
    assert "50 test tracks (MUSDB18: its 50 test songs)." in page
    assert "not comparable" not in page
    assert "27 of the campaign's methods had their vocals scored in a pair" in page
    assert "SiSEC 2018" in (in_tmp / "boxplots" / "vocals.svg").read_text()
    # Published figures are medians of medians.
    means = make_table([*MUSDB18_S], test_set=test_set, tracks="mean").table
    assert len(means) == 1 + 31
    for other in ({"frames": "mean"}, {"nan_policy": "per_source"}):
        assert set(make_table([*MUSDB18_S], test_set=test_set, **other).table["method"]) == {"ours"}


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (("vocals,drums,other", "other=other+bass"), "(other = other + bass, no bass)"),
        (("vocals,drums", ""), "(no bass, no other)"),
        (("vocals,drums,bass,other", ""), ""),
    ],
)
def test_sisec18_joins_only_where_its_four_stems_are_scored(
    parts: tuple[str, str], why: str, in_tmp: Path
) -> None:
    stems, mapping = parts
    made = parts_of(stems.split(","), {"other": ["other", "bass"]} if mapping else None)
    test_set = with_stems(recognise_test_set(MUSDB18_S, wavs=False), made)
    table = make_table([*MUSDB18_S], test_set=test_set)
    others = table.table[table.table["method"] != "ours"]
    assert set(others["test_set"]) == {"MUSDB18" if why else ""}
    table.write(in_tmp, introduction=[], metrics_of=["ours"])
    page = (in_tmp / "leaderboard.md").read_text()
    said = f"its 50 test songs; not with MUSDB18's four stems {why}: another test set)."
    assert (said in page) == bool(why)


def test_dropped_frames_are_said_and_who_does_not_say_which(in_tmp: Path) -> None:
    values = {m: [6.0] for m in METRICS}
    mine = TrackScores("x", {"vocals": values}, undetermined={"vocals": [False]})
    for policy, said in (("drop", True), ("keep", False)):
        table = make_table(["x"], undetermined=policy, more=[("mine", mine)])
        table.write(in_tmp, introduction=[], metrics_of=["ours"])
        page = (in_tmp / "leaderboard.md").read_text()
        assert ("left out, and ISR, SIR and SAR of undetermined frames too." in page) == said
        assert ("Files of ours do not say which frames are undetermined" in page) == said


def test_a_baseline_that_was_left_out_is_said_to_be_that() -> None:
    remark = Remark("", "other_test_set", "209 frames of 1 s, here 6: left out")
    left_out = ("TAU", TrackScores("x", {}, remarks=(remark,)))
    with pytest.raises(UserError) as error:
        make_table(["x"], more=[left_out], baseline="TAU")
    assert str(error.value) == (
        "baseline=TAU: all its tracks were left out, because its scores do not compare with those "
        "here (other_test_set, named above): choose another of ours"
    )


@pytest.mark.parametrize(
    ("durations_s", "wavs", "statement"),
    [
        (dict.fromkeys(MUSDB18_S, 6.8), False, "MUSDB18-7: excerpts of 6.8 s of MUSDB18's 50"),
        (MUSDB18_S, True, "MUSDB18-HQ: its 50 test songs"),
        (dict(sorted(MUSDB18_S.items())[:20]), False, "20 of MUSDB18's 50 test songs"),
    ],
)
def test_sisec18_stands_apart_from_excerpts_subsets_and_hq(
    in_tmp: Path, durations_s: dict[str, float], *, wavs: bool, statement: str
) -> None:
    test_set = recognise_test_set(durations_s, wavs=wavs)
    table = make_table([*durations_s], test_set=test_set)
    others = table.table[table.table["method"] != "ours"]
    assert len(others) == 31 + 5
    assert set(others["test_set"]) == {"MUSDB18"}
    assert others["p_value"].isna().all()
    assert set(table.tracks["method"]) == {"ours"}  # neither tested nor in the box plots
    table.write(in_tmp, introduction=[], metrics_of=["ours"])
    page = (in_tmp / "leaderboard.md").read_text()
    above, below = page.split("## MUSDB18, 50 whole songs: another test set, not comparable")
    assert f"{len(durations_s)} test tracks ({statement}" in above
    assert "SiSEC" not in above
    assert "| TAK1 (SiSEC 2018) | 6.60 |" in below
    summary = table.summary("p.md")
    assert "SiSEC" not in summary
    assert summary.endswith("tests, and published scores of another test set: p.md")


def test_sisec18_is_context_elsewhere(in_tmp: Path) -> None:
    assert set(make_table(["x", "y"]).table["method"]) == {"ours"}
    table = make_table(["x", "y"], context="sisec18")
    others = table.table[table.table["method"] != "ours"]
    assert set(others["test_set"]) == {"MUSDB18"}
    assert others["p_value"].isna().all()
    table.write(in_tmp, introduction=[], metrics_of=["ours"])
    page = (in_tmp / "leaderboard.md").read_text()
    assert "| TAK1 (SiSEC 2018) | 6.60 |" in page.split("not comparable")[1]
    with pytest.raises(UserError, match="its scores are medians over frames of 1 s"):
        make_table(["x", "y"], context="sisec18", frames="mean")
    with pytest.raises(UserError, match="baseline=x: unknown method; known: ours"):
        make_table(["x", "y"], baseline="x")


def test_scores_that_do_not_say_what_is_undetermined_stand_beside_ours(in_tmp: Path) -> None:
    metrics = {metric: [6.0, 8.0] for metric in METRICS}
    ours = TrackScores("x", {"vocals": metrics}, undetermined={"vocals": [True, False]})
    theirs = TrackScores("x", {"vocals": metrics})  # museval's JSON, and ours before the flags
    table = Leaderboard(
        [("ours", ours), ("theirs", theirs)],
        stems=STEMS,
        aggregation=Aggregation("median", "median", "ours", 0.95, resamples=99, seed=1),
        how=Scoring(1.0, 1.0, "museval", accompaniment=False),
        test_set=recognise_test_set({}, wavs=False),
        context=None,
    )
    table.write(in_tmp, introduction=[], metrics_of=["ours"])
    page = (in_tmp / "leaderboard.md").read_text()
    shares = {
        row.split(" | ")[0]: row.split(" | ")[9]
        for row in page.splitlines()
        if "7.00" in row and row.count("|") > 9
    }
    assert shares == {"| ours": "50.0 %", "| theirs": "-"}
    assert pd.read_csv(in_tmp / "tracks.csv")["undetermined_frames"].tolist()[0] == 1.0


def save_models(folder: Path, stems: list[str]) -> None:
    for number, stem in enumerate(stems):
        (folder / stem).mkdir(parents=True)
        net = UNet(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
        model = net.build([stem], seed=number)
        save_model(folder / stem, Model((stem,), net, 4096, 1024, RATE_HZ, {}, model))


def frames_of(method: str) -> pd.DataFrame:
    table = pd.read_parquet("scores/scores.parquet")
    mine = table[table["method"] == method].set_index(["track", "target", "frame"])
    return mine[list(METRICS)]


def test_stem_files_are_scored_again_with_other_stems(tiny_corpus: Path, in_tmp: Path) -> None:
    """All streams are in one file, whose checksum says nothing of which stems were scored."""
    files = in_tmp / "files"
    (song,) = (tiny_corpus / "test").iterdir()
    noise = np.random.default_rng(3).normal(0, 0.1, (3 * RATE_HZ, 2))
    write(files / song.name.removesuffix(".stem.mp4") / "vocals.wav", noise)
    for other in ("drums", "other"):  # code 1: AAC is a little longer than the noise
        options = ("--stems", f"vocals,{other}", "--oracles", "UNPROCESSED")
        run("score", files, "--corpus", tiny_corpus, "--output", "scores", *options, code=1)
        found = {*frames_of("UNPROCESSED").index.get_level_values("target")}
        assert found == {"vocals", other, "accompaniment"}


def test_models_on_the_fly_score_as_their_files_do(tiny_corpus: Path, in_tmp: Path) -> None:
    save_models(Path("models"), ["drums", "vocals"])
    run(
        *("separate", tiny_corpus / "test", "--model", "models", "--output", "files"),
        *("--subtype", "FLOAT"),
    )
    score(Path("files"), tiny_corpus)
    before = set(in_tmp.rglob("*.wav"))
    run("score", "--model", "models", "--corpus", tiny_corpus, "--output", "scores")
    assert set(in_tmp.rglob("*.wav")) == before
    files, model = frames_of("files"), frames_of("models")
    assert len(files) == 2 * 3  # the song of .stem.mp4 lasts 3 s
    # The command decodes to float, scoring to the 16 bits that musdb reads.
    pd.testing.assert_frame_equal(files, model, atol=0.02)


def test_a_model_of_the_vocals_alone_is_scored_against_the_rest(
    tiny_corpus: Path, in_tmp: Path
) -> None:
    save_models(Path("models"), ["vocals"])
    run(
        *("score", "--model", "models/vocals", "--corpus", tiny_corpus, "--output", "scores"),
        *("--oracles", "MIX"),
    )
    assert set(frames_of("vocals").index.get_level_values("target")) == {
        "vocals",
        "accompaniment",
    }
    assert "accompaniment" in set(frames_of("MIX").index.get_level_values("target"))
    page = Path("scores/leaderboard.md").read_text()
    assert "vocals: vocals against the rest (accompaniment)." in page


def test_a_folder_of_one_stem_is_scored_against_the_rest(
    corpus: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest is the mixture minus the estimate; tests/test_scoring_scores.py has museval's."""
    song = in_tmp / "hq" / "test" / TRACKS[0]
    song.parent.mkdir(parents=True)
    song.symlink_to(corpus / "test" / TRACKS[0])
    drums, _ = soundfile.read(song / "drums.wav")
    noise = np.random.default_rng(7).normal(0, 0.02, drums.shape)
    write(in_tmp / "mine" / TRACKS[0] / "drums.wav", drums + noise)
    score(in_tmp / "mine", in_tmp / "hq", "--oracles", "IRM1")
    assert "drums" not in capsys.readouterr().err  # nothing is missing
    page = Path("scores/leaderboard.md").read_text()
    sdr = frames_of("mine")["SDR"].groupby("target").median()
    assert sdr["drums"] == pytest.approx(20 * np.log10(0.1 / 0.02), abs=0.3)
    assert sdr["no_drums"] == pytest.approx(sdr["drums"] + 10 * np.log10(3), abs=0.3)
    assert {"drums", "no_drums", "vocals"} <= {target for _, target, _ in frames_of("IRM1").index}
    assert "mine: drums against the rest (no_drums). It estimates one of the two; the" in page
    assert "## Not scored" not in page
    stored = json.loads(Path(f"scores/mine/test/{TRACKS[0]}.json").read_text())["stemforge"]
    assert (stored["scoring"]["against_rest"], stored["remarks"]) == (["drums"], [])
    # All else in the mixture is the rest, whatever stems are listed.
    whole = pd.read_parquet("scores/whole.parquet").set_index(["method", "target"])["uSDR"]
    two = ("--stems", "vocals,drums", "--oracles", "IRM1")
    run("score", "mine", "--corpus", "hq", "--output", "two", *two)
    again = pd.read_parquet("two/whole.parquet").set_index(["method", "target"])["uSDR"]
    for target in ("drums", "no_drums"):
        assert again["mine", target] == pytest.approx(whole["mine", target], abs=1e-3)
    capsys.readouterr()
    run("score", "mine", "--corpus", "hq", "--output", "scores", "--stems", "drums", code=2)
    assert "--stems drums: must be all stems of the corpus" in capsys.readouterr().err


@pytest.mark.system
def test_from_gs_to_gs_without_beam(
    estimates: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with google_storage(monkeypatch):
        for root in (estimates, corpus):
            for path in root.rglob("*.wav"):
                name = path.relative_to(root.parent).as_posix()
                storage.upload(path, f"gs://bucket/{name}")
        run(
            *("score", "gs://bucket/mine", "--corpus", f"gs://bucket/{corpus.name}"),
            *("--output", "gs://bucket/scores"),
        )
        remote = {
            name: storage.read_bytes(f"gs://bucket/scores/{name}")
            for name in storage.list_files("gs://bucket/scores")
        }
    score(estimates, corpus)
    local = {
        path.relative_to("scores").as_posix(): path.read_bytes()
        for path in Path("scores").rglob("*.*")
    }
    assert remote == local


def test_a_flat_corpus_is_scored_as_mapped_and_again_after_another_mapping(
    in_tmp: Path, random: np.random.Generator
) -> None:
    first, second, third = random.normal(0, 0.1, (3, SAMPLES, 2))
    for name, waveform in (("a", first), ("b", second), ("c", third)):
        write(in_tmp / "flat" / "Song" / f"{name}.wav", waveform)
    for name, waveform in (("vocals", first), ("other", second + third)):
        # -20 dB, of which the filters of 512 taps can explain 1 %.
        noise = 0.1 * np.std(waveform) * random.standard_normal(waveform.shape)
        write(in_tmp / "mine" / "Song" / f"{name}.wav", waveform + noise)
    medians = []
    for mapping in ("vocals=a+b,other=c", "vocals=a,other=b+c"):
        options = ("--stems", "vocals,other", "--mapping", mapping)
        rows = score(in_tmp / "mine", in_tmp / "flat", *options)
        medians.append(rows[rows["target"] == "vocals"]["SDR"].median())
    assert medians[0] < 3.1  # half of the true stem is missing
    assert medians[1] == pytest.approx(20.0, abs=0.3)
