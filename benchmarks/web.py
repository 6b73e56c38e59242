"""What the page of `stemforge web` takes in a browser: time, memory, and how close its stems are.

    python -m benchmarks.web SONG [--model spleeter:2stems] [--seconds 180] [--turns 3]

Headless Chromium opens the page from a server on this machine, with the headers that allow threads
and without, and separates the first seconds of the song (repeated where it is shorter), as a WAV
file of 16 bits at 44.1 kHz. Seconds are from the choice of the file to the player: decoding,
loading the nets, separating. The real-time factor leaves out what comes before the first part.
Memory is the peak
of the page's process, and what that had before the song. The difference is the largest from what
`Separator` returns for the same samples by the same models in float32, which the page has in
float16.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import common
from benchmarks.common import RATE_HZ, served
from stemforge import Separator, find_models, load_song
from stemforge.eval.web.page import ISOLATING
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained.catalogue import DEFAULT
from stemforge.pipelines.pretrained.places import resolve

LIMIT_MS = 600_000
WATCH = """() => {
  window.times = {};
  new MutationObserver(() => {
    const bar = document.getElementById("bar");
    if (bar.hasAttribute("value")) times.first ??= [performance.now(), bar.value];
    if (!document.getElementById("listen").hidden) times.end ??= performance.now();
  }).observe(document.body, { subtree: true, attributes: true, childList: true });
}"""


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("song", type=Path)
    parser.add_argument("--model", default=DEFAULT, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=180.0, help="of the song (%(default)g)")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        wave = cut(arguments.song, arguments.seconds)
        soundfile.write(root / "song.wav", wave, RATE_HZ, subtype="PCM_16")
        wave, _ = load_song(root / "song.wav")
        page = root / "page"
        if cli.main(["web", str(page), "--model", arguments.model]):
            raise SystemExit(2)
        models = find_models(resolve(arguments.model), runtime="litert")
        expected = Separator.load(models).separate(wave, sample_rate_hz=RATE_HZ)
        columns = ["threads", "seconds", "real-time factor", "peak memory", "empty page"]
        columns += ["largest difference"]
        rows = (row(page, root / "song.wav", expected, t, arguments.turns) for t in (True, False))
        common.print_table(columns, rows)


def cut(song: Path, seconds: float) -> np.ndarray:
    """The song's first seconds at 44.1 kHz, repeated where it is shorter."""
    wave, rate_hz = load_song(song)
    if rate_hz != RATE_HZ:
        raise SystemExit(f"{song}: {rate_hz} Hz: give a song of {RATE_HZ} Hz")
    samples = round(seconds * RATE_HZ)
    return np.tile(wave, (-(-samples // len(wave)), 1))[:samples]


def row(
    page: Path, song: Path, expected: dict[str, np.ndarray], threads: bool, turns: int
) -> list[str]:
    """A table's row: medians of the turns."""
    found = [measure(page, song, expected, threads) for _ in range(turns)]
    medians = [statistics.median(values) for values in zip(*found, strict=True)]
    seconds, factor, memory, empty, difference = medians
    how = "several" if threads else "one"
    cells = [how, f"{seconds:.1f}", f"{factor:.3f}", f"{memory:.0f} MB", f"{empty:.0f} MB"]
    return [*cells, f"{difference:.1e}"]


def measure(
    page: Path, song: Path, expected: dict[str, np.ndarray], threads: bool
) -> tuple[float, float, float, float, float]:
    """Seconds, real-time factor, MB, MB before, and difference, in a browser of its own."""
    from playwright.sync_api import sync_playwright

    if (chromium := common.chromium()) is None:
        raise SystemExit("no Chromium: apt-get install chromium")
    headers = ISOLATING if threads else {}
    duration = soundfile.info(song).duration
    with served(page, headers) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(LIMIT_MS)
        opened.goto(f"{url}/index.html")
        opened.evaluate(WATCH)
        empty = max(peaks_mb())
        started = time.perf_counter()
        opened.set_input_files("#file", song)
        opened.wait_for_selector("#listen:not([hidden])")
        seconds = time.perf_counter() - started
        first, share, end = opened.evaluate("[...times.first, times.end]")
        factor = (end - first) / 1000 / (1 - share) / duration
        memory = max(peaks_mb())
        difference = max(
            np.abs(saved(opened, stem) - wave).max() for stem, wave in expected.items()
        )
        browser.close()
    return seconds, factor, memory, empty, float(difference)


def saved(page: Any, stem: str) -> np.ndarray:
    """The stem that a link of the page saves."""
    with page.expect_download() as download:
        page.click(f"#stems li[data-stem='{stem}'] a")
    wave: np.ndarray = soundfile.read(download.value.path(), dtype="float32", always_2d=True)[0]
    return wave


def peaks_mb() -> Iterator[float]:
    """Peak memory of each process that shows a page of a browser."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            status = (process / "status").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.M)
        if b"--type=renderer" in command and peak:
            yield int(peak[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
