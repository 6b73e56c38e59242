"""`stemforge report`: what is in its files, and what users get wrong."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile

from stemforge.eval.leaderboard.about import About
from stemforge.eval.leaderboard.tables import COLUMNS, Aggregation
from stemforge.eval.report import contents
from stemforge.eval.report.pages import render, to_script
from stemforge.pipelines.commands import main as cli
from tests.conftest import RATE_HZ, ROOT
from tests.factories import REPORT_SONGS, write_scored_songs

LONG, SHORT = REPORT_SONGS


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, estimates of two methods, and their scores. Read only."""
    root = tmp_path_factory.mktemp("scored")
    write_scored_songs(root)
    return root


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMFORGE_PROCESSES", "1")


def run(*arguments: object, code: int = 0) -> None:
    assert cli.main([str(a) for a in arguments]) == code


def report(scored: Path, *more: object, code: int = 0, scores: str = "scores") -> None:
    run("report", scored / scores, "--output", "page", *more, code=code)


def audio(scored: Path, *methods: str) -> list[object]:
    options: list[object] = ["--audio", "excerpts", "--corpus", scored / "corpus"]
    options += ["--licence", "CC0 & free", "--stems", "vocals,drums", "--seconds", "1"]
    for method in methods:
        options += ["--estimates", f"{method}={scored / method}"]
    return options


def read_page(page: Path = Path("page")) -> dict[str, Any]:
    text = (page / "index.html").read_text(encoding="utf-8")
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text)
    data: dict[str, Any] = json.loads(found)
    return data


def read_song(script: str) -> dict[str, Any]:
    found = re.fullmatch(r"receiveSong\(\d+, (\{.*\})\);\n", script)
    assert found
    song: dict[str, Any] = json.loads(found[1])
    return song


def test_the_page_holds_the_leaderboards_figures(scored: Path, in_tmp: Path) -> None:
    report(scored, "--title", "A <title>")
    data = read_page()
    table = pd.read_parquet(scored / "scores" / "leaderboard.parquet")
    rows = {(m["name"], target): row for m in data["methods"] for target, row in m["rows"].items()}
    for row in table.to_dict("records"):
        shown = rows.pop((row["method"], row["target"]))
        assert shown["SDR"] == pytest.approx(row["SDR"], abs=0.005)
    assert not rows
    tracks = pd.read_csv(scored / "scores" / "tracks.csv")
    for row in tracks.to_dict("records"):
        number = data["songs"].index(row["track"])
        values = data["scores"][row["method"]][row["target"]]["SDR"]
        assert values[number] == pytest.approx(row["SDR"], abs=0.005)
    wide = tracks[tracks["target"] == "vocals"].pivot(index="track", columns="method", values="SDR")
    mean = float((wide["second"] - wide["first"]).mean())
    assert data["baseline"] == "first"
    assert data["differences"]["second"]["vocals"][0] == pytest.approx(mean, abs=0.005)
    assert (data["heard"], data["title"]) == ([], "A <title>")
    text = Path("page/index.html").read_text(encoding="utf-8")
    assert "<h1>A &lt;title&gt;</h1>" in text
    assert "This report has no sound." in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)  # nothing from elsewhere


def test_a_songs_script_holds_its_frames_and_what_is_heard(scored: Path, in_tmp: Path) -> None:
    report(scored, *audio(scored, "first", "second"))
    data = read_page()
    assert data["heard"] == ["second", "first"]  # the best first
    place = Path("page") / data["files"][data["songs"].index(LONG)]
    song = read_song(place.read_text(encoding="utf-8"))
    frames = pd.read_parquet(scored / "scores" / "scores.parquet")
    mine = frames[(frames["track"] == LONG) & (frames["method"] == "second")]
    vocals = mine[mine["target"] == "vocals"].sort_values("frame")["SDR"]
    assert song["sdr"]["second"]["vocals"] == pytest.approx([*vocals], abs=0.005)
    assert [kind for kind, _, _ in song["excerpts"]] != ["whole"]
    sources = ("true", "method/first", "method/second")
    names = {f"{source}/{stem}" for source in sources for stem in ("vocals", "drums")}
    assert song["sounds"].keys() == {"mixture", *names}
    for name, file in (
        ("mixture", scored / "corpus" / "test" / LONG / "mixture.wav"),
        ("true/drums", scored / "corpus" / "test" / LONG / "drums.wav"),
        ("method/second/vocals", scored / "second" / LONG / "vocals.wav"),
    ):
        wave, _ = soundfile.read(file)
        cut = [
            wave[round(start * RATE_HZ) : round(end * RATE_HZ)]
            for _, start, end in song["excerpts"]
        ]
        expected = scipy.signal.resample_poly(np.concatenate(cut), 160, 147)
        heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(song["sounds"][name])))
        assert rate_hz == 48000
        assert len(heard) == pytest.approx(len(expected), abs=2)
        count = min(len(heard), len(expected))
        both = np.corrcoef(heard[:count, 0], expected[:count, 0])
        assert both[0, 1] > 0.95, name
    short = read_song((Path("page") / data["files"][data["songs"].index(SHORT)]).read_text("utf-8"))
    assert [kind for kind, _, _ in short["excerpts"]] == ["whole"]


def test_the_same_input_gives_the_same_bytes(scored: Path, in_tmp: Path) -> None:
    report(scored, *audio(scored, "second"))
    shutil.move("page", "before")
    report(scored, *audio(scored, "second"))
    files = sorted(path.relative_to("page") for path in Path("page").rglob("*.*"))
    assert len(files) == 3
    for file in files:
        assert (Path("before") / file).read_bytes() == (Path("page") / file).read_bytes()


def test_a_single_file_holds_the_songs(scored: Path, in_tmp: Path) -> None:
    report(scored, *audio(scored, "first"), "--single-file")
    assert [path.name for path in Path("page").iterdir()] == ["index.html"]
    text = Path("page/index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"receiveSong\(\d+, .*?\);\n", text)
    assert {read_song(script)["name"] for script in scripts} == {*REPORT_SONGS}
    assert read_page()["files"] == [None, None]


def test_a_release_has_leaderboard_and_scores_apart(scored: Path, in_tmp: Path) -> None:
    shutil.copytree(scored / "scores", "release/leaderboard")
    Path("release/scores").mkdir()
    shutil.move("release/leaderboard/scores.parquet", "release/scores")
    run("report", "release", "--output", "of-release")
    report(scored)
    assert read_page(Path("of-release")) | {"repeat": ""} == read_page() | {"repeat": ""}


def test_estimates_that_are_missing_are_named(
    scored: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scored / "first", "first")
    (Path("first") / LONG / "drums.wav").write_bytes(b"no audio")
    shutil.rmtree(Path("first") / SHORT)
    report(scored, *audio(scored), "--estimates", "first=first", code=1)
    said = capsys.readouterr().err
    assert f"{LONG}: first: drums: not readable as audio" in said
    assert f"{SHORT}: first: vocals: no estimate of vocals" in said
    assert "3 remarks on what can be heard (see above)" in said
    data = read_page()
    song = read_song((Path("page") / data["files"][data["songs"].index(LONG)]).read_text("utf-8"))
    estimates = {name for name in song["sounds"] if name.startswith("method/")}
    assert estimates == {"method/first/vocals"}


def test_what_users_get_wrong(
    scored: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*more: object, scores: str = "scores") -> str:
        report(scored, *more, code=2, scores=scores)
        assert not Path("page").exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert "leaderboard.json: no such file: give a folder" in error(scores="corpus")
    shutil.copytree(scored / "scores", "older")
    Path("older/leaderboard.json").unlink()
    run("report", "older", "--output", "page", code=2)
    assert "leaderboard.json: no such file: scored by an earlier version" in capsys.readouterr().err
    assert "--audio excerpts: needs --corpus" in error("--audio", "excerpts")
    assert "--licence: has no effect without --audio" in error("--licence", "CC0")
    assert "--estimates first: must be METHOD=DIR" in error(*audio(scored), "--estimates", "first")
    third = error(*audio(scored), "--estimates", "third=x")
    assert "no scores of third; there are: first, second" in third
    assert "x: no such folder" in error(*audio(scored), "--estimates", "first=x")
    assert "bitrate lots: must be a number" in error(*audio(scored), "--bitrate", "lots")
    assert "--bitrate: has no effect without --audio" in error("--bitrate", "64k")
    zero = [*audio(scored), "--seconds", "0"]
    assert "--seconds 0: must be between 1 and 30" in error(*zero)
    shutil.copytree(scored / "corpus" / "test" / SHORT, "other/test/Another")
    other = [*audio(scored), "--corpus", "other"]
    assert "the corpus has none of the scored songs" in error(*other)
    # Other songs of the same names, as MUSDB18's are of its excerpts.
    for song in REPORT_SONGS:
        shutil.copytree(scored / "corpus" / "test" / REPORT_SONGS[1], f"longer/test/{song}")
        for file in Path("longer/test", song).iterdir():
            wave, rate_hz = soundfile.read(file)
            soundfile.write(file, np.concatenate([wave] * 9), rate_hz, subtype="FLOAT")
    longer = [*audio(scored), "--corpus", "longer"]
    assert "no song can be heard (see above)" in error(*longer)
    shutil.copytree(scored / "scores", "damaged")
    Path("damaged/leaderboard.json").write_text('{"title": 1}')
    run("report", "damaged", "--output", "page", code=2)
    assert "leaderboard.json: damaged, or written by another version" in capsys.readouterr().err
    Path("page").mkdir()
    Path("page/mine").touch()
    report(scored, code=2)
    assert "page: already exists and is not empty" in capsys.readouterr().err


def test_names_of_songs_and_methods_are_texts(scored: Path, in_tmp: Path) -> None:
    shutil.copytree(scored / "scores", "numbers")
    names = {"first": "001", "second": "NA", LONG: "7", SHORT: "None"}
    for file in ("leaderboard.parquet", "scores.parquet"):
        table = pd.read_parquet(Path("numbers") / file)
        columns = {c: table[c].replace(names) for c in ("method", "track") if c in table}
        table.assign(**columns).to_parquet(Path("numbers") / file)
    table = pd.read_csv("numbers/tracks.csv")
    table = table.assign(**{c: table[c].replace(names) for c in ("method", "track")})
    table.to_csv("numbers/tracks.csv", index=False)
    text = Path("numbers/leaderboard.json").read_text().replace('"first"', '"001"')
    Path("numbers/leaderboard.json").write_text(text)
    run("report", "numbers", "--output", "page")
    data = read_page()
    assert (data["songs"], data["choices"]) == (["7", "None"], ["NA", "001"])
    assert data["scores"]["NA"]["drums"]["SDR"][1] is not None
    assert data["differences"]["NA"].keys() == {"vocals", "drums"}


def test_a_method_may_have_any_name(scored: Path, in_tmp: Path) -> None:
    """A folder of scores has a folder for each method, which is no model and no leaderboard."""
    shutil.copytree(scored / "scores", "scores")
    for name in ("models", "leaderboard", "scores"):
        shutil.copytree("scores/first", f"scores/{name}")
    run("report", "scores", "--output", "page")
    assert read_page()["models"] == []


def test_rests_are_no_stems() -> None:
    about = About(
        "T", (), "S", (), "", ("vocals", "drums", "accompaniment"),
        Aggregation("median", "median", "m", 0.95, 9, 1), 1.0, 1.0,
    )  # fmt: skip
    rows = [{"method": "m", "track": "s", "target": target, "SDR": 1.0} for target in about.targets]
    tracks = pd.DataFrame(rows)
    table = tracks.reindex(columns=list(COLUMNS)).assign(test_set="", source="")
    assert contents.board_data(table, tracks, about)["stems"] == ["vocals", "drums"]


def test_names_cannot_leave_the_data() -> None:
    nasty = "</script><!--<script>alert('1')&\u2028"
    text = to_script({"name": nasty})
    assert json.loads(text) == {"name": nasty}
    assert not set("<>&\u2028") & set(text)
    data = {"title": nasty, "introduction": [nasty], "statement": "`a<b`", "notes": [], "apart": ""}
    page = render({**data, "models": [], "curves": [], "repeat": nasty})
    assert nasty not in page
    assert "<p><code>a&lt;b</code></p>" in page


def test_frames_and_means_by_hand() -> None:
    rows = [
        *(("m", "s", "vocals", 1, 2.004), ("m", "s", "vocals", 0, -0.001), ("m", "s", "", 0, None)),
        *(("m", "s", "drums", 0, None), ("m", "s", "drums", 1, 4.0), ("n", "s", "drums", 0, 1.0)),
        ("m", "t", "drums", 0, 9.0),
    ]
    frames = pd.DataFrame(rows, columns=["method", "track", "target", "frame", "SDR"])
    found = contents.song_frames(frames, "s", ["m"])
    assert found == {"m": {"drums": [None, 4.0], "vocals": [0.0, 2.0]}}
    assert contents.mean_over_targets(found["m"]) == [0.0, 3.0]
    assert contents.mean_over_targets({}) == []


def test_curves_by_hand() -> None:
    history = pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25], "valid_loss": [np.nan, 0.3]})
    assert contents.curves(history) == {"loss": [[1, 0.5], [2, 0.25]], "valid_loss": [[2, 0.3]]}


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    """4.5 to 1 for text, by WCAG 2's formula, in light and dark."""
    style = (ROOT / "eval" / "report" / "assets" / "report.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for block in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
        pairs = [(ink, paper) for ink in ("ink", "quiet") for paper in ("paper", "shade")]
        pairs += [(ink, "paper") for ink in ("first", "second")]  # and paper on them, as on buttons
        for ink, paper in pairs:
            one, other = sorted(luminance(colours[name]) for name in (ink, paper))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (ink, paper)


def luminance(code: str) -> float:
    """Relative luminance of an sRGB colour."""
    values = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
