"""`stemforge score` and `import-scores` on real files, with what users get wrong."""

import json
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
from stemforge.eval.scoring.scores import METRICS, Scoring, TrackScores
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
    table = score(estimates, corpus, "--oracles", "MIX")
    store = museval.EvalStore()
    store.add_eval_dir("scores/mine")
    assert set(store.df["track"]) == set(TRACKS)
    theirs = store.agg_frames_tracks_scores()
    leaderboard = pd.read_csv("scores/leaderboard.csv").set_index(["method", "target"])
    for target in STEMS:
        for metric in METRICS:
            value = leaderboard.loc[("mine", target), metric]
            assert value == pytest.approx(theirs[target, metric], abs=1e-3)
    assert set(table["method"]) == {"mine", "MIX"}
    assert set(table["frame"]) == {0, 1}
    # 14 dB by construction; the mixture holds three stems of the same level beside each.
    assert leaderboard.loc[("mine", "vocals"), "SDR"] == pytest.approx(14.0, abs=0.3)
    assert leaderboard.loc[("MIX", "vocals"), "SDR"] == pytest.approx(-4.8, abs=0.3)
    metrics = json.loads(Path("scores/metrics.json").read_text())
    assert metrics["mine"]["vocals"]["uSDR"] == pytest.approx(14.0, abs=0.3)
    page = capsys.readouterr().out
    assert page.strip() == Path("scores/leaderboard.md").read_text().strip()
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
        assert f"score: mine: {track}" in said
        assert f": {reason}: " in said
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
    page = capsys.readouterr().out
    assert "| SDR, dB | vocals (0 tracks, 1 without a score) | drums (1 track) | acc" in page
    assert "| mine | - | **20.00** | **20.00** |" in page  # a tenth of the stem is missing
    assert Path("scores/boxplots/vocals.svg").is_file()


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
    assert "--oracles IRM3: not an oracle: use all or some of MIX" in refused(
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
    # Another policy is another score, and not one to compare with.
    capsys.readouterr()
    score(estimates, corpus, *TWO, "--hop-s", "0.5")
    assert "scored with" not in capsys.readouterr().err
    score(estimates, corpus, *TWO, "--name", "again")
    assert "score: mine: scored with hop_s=0.5, not 1.0" in capsys.readouterr().err
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


def fake_scores(tracks: list[str]) -> list[tuple[str, TrackScores]]:
    random = np.random.default_rng(0)
    return [
        ("ours", TrackScores(track, {"vocals": {m: [random.normal(6.0)] for m in METRICS}}))
        for track in tracks
    ]


def make_table(tracks: list[str], **changes: Any) -> Leaderboard:
    aggregation: dict[str, Any] = {
        **{"frames": "median", "tracks": "median", "baseline": "ours"},
        **{"confidence": 0.95, "resamples": 99, "seed": 1},
    }
    context = changes.pop("context", None)
    return Leaderboard(
        fake_scores(tracks),
        stems=STEMS,
        aggregation=Aggregation(**aggregation | changes),
        how=Scoring(1.0, 1.0, "museval", accompaniment=False),
        context=context,
    )


def test_sisec18_joins_where_the_tracks_are_musdb18s(in_tmp: Path) -> None:
    table = make_table(sorted(set(published.sisec18()["track"])))
    rows = table.table.set_index(["method", "target"])
    assert len(rows) == 1 + 31 + 5  # all of them have vocals, and nothing else was scored
    assert rows["p_value"][("IRM1 (SiSEC 2018)", "vocals")] < 0.05
    assert rows.loc[("Demucs (published)", "vocals"), "SDR"] == 7.05
    assert set(table.table["test_set"]) == {""}
    page = table.write(in_tmp, introduction=["I."], metrics_of=["ours"])
    assert "27 of the campaign's methods had their vocals scored in a pair" in page
    assert "SiSEC 2018" in (in_tmp / "boxplots" / "vocals.svg").read_text()


def test_sisec18_is_context_elsewhere(in_tmp: Path) -> None:
    assert set(make_table(["x", "y"]).table["method"]) == {"ours"}
    table = make_table(["x", "y"], context="sisec18")
    others = table.table[table.table["method"] != "ours"]
    assert set(others["test_set"]) == {"MUSDB18"}
    assert others["p_value"].isna().all()
    page = table.write(in_tmp, introduction=[], metrics_of=["ours"])
    assert "| TAK1 (SiSEC 2018), on MUSDB18 | 6.60 |" in page
    assert "scored on another test set**: context" in page
    with pytest.raises(UserError, match="its scores are medians over frames of 1 s"):
        make_table(["x", "y"], context="sisec18", frames="mean")
    with pytest.raises(UserError, match="baseline=x: unknown method; known: ours"):
        make_table(["x", "y"], baseline="x")


def save_models(folder: Path, stems: list[str]) -> None:
    for number, stem in enumerate(stems):
        (folder / stem).mkdir(parents=True)
        net = UNet(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid")
        model = net.build([stem], seed=number)
        save_model(folder / stem, Model((stem,), net, 4096, 1024, RATE_HZ, {}, model))


def frames_of(method: str) -> pd.DataFrame:
    table = pd.read_parquet("scores/scores.parquet")
    mine = table[table["method"] == method].set_index(["track", "target", "frame"])
    return mine[list(METRICS)]


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
