"""Size of a report of MUSDB18's 50 test songs and two methods, and the time to write and open it.

    python -m benchmarks.report CORPUS_ROOT [--songs 50] [--seconds 240]

Each song is the corpus' test songs, joined and repeated to that length; its scores are drawn at
random, so that excerpts are cut at other places of each. The estimates are the true stems: Opus'
size hardly depends on what it holds. SiSEC 2018's systems are in the leaderboard, as on MUSDB18
itself. Without Chromium nothing is opened.
"""

import functools
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import common
from benchmarks.common import RATE_HZ, SOURCES
from stemforge.eval.leaderboard.board import Leaderboard
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.scores import METRICS, MUSEVAL, TrackScores, frame_table
from stemforge.features.audio.ffmpeg import decode_stream, probe_streams
from stemforge.features.corpus.musdb18 import TestSet
from stemforge.features.corpus.sources import MUSDB_STREAMS, STEMS
from stemforge.pipelines.running.report_sounds import Sources
from stemforge.pipelines.running.reporting import (
    BITRATE,
    SECONDS,
    Sound,
    read_board,
    write_report,
)
from stemforge.pipelines.scoring.plan import TrackSources

METHODS = ("ours", "theirs")


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    parser.add_argument("--songs", type=int, default=50, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=float, default=240.0, help="of each (%(default)g)")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = write_song(arguments.corpus, root, arguments.seconds)
        songs = [f"Somebody - Song {number}" for number in range(arguments.songs)]
        write_board(root, songs, frames=math.floor(arguments.seconds))
        stems = {stem: str(files[stem]) for stem in STEMS}
        sources = {
            song: Sources(
                TrackSources(song, functools.partial(opened, files)), dict.fromkeys(METHODS, stems)
            )
            for song in songs
        }
        sound = Sound(sources, "none", SECONDS, BITRATE)
        page = root / "page"
        page.mkdir()
        started = time.perf_counter()
        write_report(
            page, read_board(str(root), str(root)), sound, title=None, models=[], repeat="",
            single_file=False, label="benchmark",
        )  # fmt: skip
        written_s = time.perf_counter() - started
        index = page / "index.html"
        total = sum(path.stat().st_size for path in page.rglob("*") if path.is_file())
        rows = [
            ["index.html, MB", f"{index.stat().st_size / 1e6:.2f}", "1.5"],
            ["all, MB", f"{total / 1e6:.1f}", "60"],
            ["to write it, s", f"{written_s:.0f}", "-"],
        ]
        if chromium := shutil.which("chromium"):
            seconds = open_page(chromium, index, turns=arguments.turns)
            rows.append(["to open it, s", f"{np.median(seconds):.2f}", "2"])
        common.print_table([f"report of {arguments.songs} songs", "found", "limit"], rows)


def write_song(corpus: Path, root: Path, seconds: float) -> dict[str, Path]:
    """WAV files by source: the corpus' test songs one after the other, over and over."""
    paths = sorted((corpus / "test").glob("*.stem.mp4"))
    samples = round(seconds * RATE_HZ)
    files = {}
    for source in SOURCES:
        joined = np.concatenate([read_stream(path, MUSDB_STREAMS[source]) for path in paths])
        files[source] = root / f"{source}.wav"
        repeated = np.resize(joined, (samples, joined.shape[1]))
        soundfile.write(files[source], repeated, RATE_HZ, subtype="PCM_16")
    return files


def read_stream(path: Path, stream: int) -> np.ndarray:
    """float32 [samples, 2]."""
    return np.concatenate([*decode_stream(path, stream, probe_streams(path)[stream])])


@contextmanager
def opened(files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """As TrackSources.open."""
    yield dict(files)


def write_board(root: Path, songs: list[str], *, frames: int) -> None:
    """A leaderboard of random scores, and scores.parquet."""
    random = np.random.default_rng(1)
    found = []
    for method in (*METHODS, "IRM1", "UNPROCESSED"):
        for song in songs:
            values = {
                stem: {metric: random.normal(5.0, 3.0, frames).tolist() for metric in METRICS}
                for stem in STEMS
            }
            found.append((method, TrackScores(song, values)))
    board = Leaderboard(
        found,
        stems=STEMS,
        aggregation=Aggregation("median", "median", METHODS[0], 0.95, 99, 1),
        how=MUSEVAL,
        test_set=TestSet("MUSDB18", "MUSDB18's test set", is_musdb18=True),
        context=None,
    )
    board.write(root, introduction=[], metrics_of=METHODS)
    frame_table(found).to_parquet(root / "scores.parquet", index=False)


def open_page(chromium: str, index: Path, *, turns: int) -> list[float]:
    """Seconds from the address to a page that shows all squares, in a new browser each time."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        for _ in range(turns):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            started = time.perf_counter()
            page.goto(index.as_uri())
            page.wait_for_selector("#heat .cell")
            found.append(time.perf_counter() - started)
            browser.close()
    return found


if __name__ == "__main__":
    main()
