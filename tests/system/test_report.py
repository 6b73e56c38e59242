"""The report's page in a real browser, from file://: what it shows, plays and remembers."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from benchmarks.common import chromium
from stemforge.pipelines.commands import main as cli
from tests.conftest import RATE_HZ
from tests.factories import REPORT_SONGS, write_scored_songs

CHROMIUM = chromium()
LONG, SHORT = REPORT_SONGS
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]
# Keeps the arguments of all sounds that are started.
RECORD = """
window.started = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
  if (this.context instanceof AudioContext) started.push(given);
  return start.apply(this, given);
};
"""
# Renders what the page would play, with its own graph and gains, as base64 of float32.
RENDER = """async (seconds) => {
  const context = new OfflineAudioContext(2, Math.round(seconds * 48000), 48000);
  const buffers = new Map(neededSounds().map((name) => [name, player.buffers.get(name)]));
  const gains = gainsOf(state, data, player.names);
  startSounds(context, buffers, gains, { when: 0, offset: 0, length: seconds, loop: null });
  const left = (await context.startRendering()).getChannelData(0);
  return btoa([...new Uint8Array(left.buffer)].map((byte) => String.fromCharCode(byte)).join(""));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, scores, and a report of them in page/. Read only."""
    root = tmp_path_factory.mktemp("report")
    write_scored_songs(root)
    arguments = ["report", root / "scores", "--output", root / "page", "--audio", "excerpts"]
    arguments += ["--corpus", root / "corpus", "--licence", "CC0", "--stems", "vocals,drums"]
    arguments += ["--seconds", "1", "--bitrate", "128k"]
    arguments += ["--estimates", f"first={root}/first", "--estimates", f"second={root}/second"]
    assert cli.main([str(argument) for argument in arguments]) == 0
    return root


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test where anything goes wrong on it, or is asked of elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    opened = context.new_page()
    opened.add_init_script(RECORD)
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    opened.on(
        "request", lambda r: wrong.extend([] if r.url.startswith(("file:", "data:")) else [r.url])
    )
    yield opened
    context.close()
    assert wrong == []


def address(folder: Path, fragment: str = "") -> str:
    return (folder / "page" / "index.html").as_uri() + fragment


def cell(page: Page, song: str, method: str) -> Any:
    return page.locator(f"#heat [aria-label^={quoted(f'{song}, {method}, ')}]")


def quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def heard(page: Page) -> list[str]:
    """Names of the sounds that are played at full level, after changes have faded."""
    page.wait_for_timeout(150)
    levels = page.evaluate("player.nodes.map(({ name, gain }) => [name, gain.gain.value])")
    assert all(value < 1e-3 or value > 0.999 for _, value in levels)
    return sorted(name for name, value in levels if value > 0.999)


def starts(page: Page) -> Any:
    """Offset and length (of a loop: none) of all sounds that were started since the last call."""
    found = {tuple(arguments[1:]) for arguments in page.evaluate("started.splice(0)")}
    return sorted(found)


def rendered(page: Page, seconds: float) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(page.evaluate(RENDER, seconds)), np.float32)


def truth(path: Path, page: Page) -> NDArray[np.float64]:
    """The left channel of the excerpts of a WAV file, at 48 kHz."""
    wave, _ = soundfile.read(path)
    places = page.evaluate("player.song.excerpts")
    cut = [wave[round(a * RATE_HZ) : round(b * RATE_HZ), 0] for _, a, b in places]
    found: NDArray[np.float64] = scipy.signal.resample_poly(np.concatenate(cut), 160, 147)
    return found


def error_db(found: NDArray[Any], expected: NDArray[Any]) -> float:
    count = min(len(found), len(expected))
    difference = found[:count] - expected[:count]
    return float(10 * np.log10(np.sum(difference**2) / np.sum(expected[:count] ** 2)))


def test_a_square_plays_its_stem_and_a_link_restores_it(folder: Path, page: Page) -> None:
    page.goto(address(folder))
    page.get_by_role("button", name="vocals", exact=True).click()
    cell(page, LONG, "first").click()
    page.wait_for_function("player.nodes.length")
    assert page.locator("#song-title").inner_text() == LONG
    assert heard(page) == ["method/first/vocals"]
    assert starts(page) == [(0.0, pytest.approx(1.0, abs=1e-4))]
    expected = truth(folder / "first" / LONG / "vocals.wav", page)
    assert error_db(rendered(page, 3.0), expected) < -15.0
    other = truth(folder / "second" / LONG / "drums.wav", page)
    assert error_db(rendered(page, 3.0), other) > 0.0
    # What is heard changes at the same place, and the sound goes on.
    assert page.evaluate("[state.a, state.b]") == ["second", "first"]
    page.keyboard.press("a")
    page.keyboard.press("Digit1")  # vocals are no longer soloed
    page.keyboard.press("Shift+Digit1")  # but muted
    assert page.evaluate("data.targets") == ["vocals", "drums"]
    assert heard(page) == ["method/second/drums"]
    assert starts(page) == []  # the sounds ran on
    page.locator("#b").select_option("second")  # another method starts at the same place
    page.wait_for_function("player.nodes.length")
    assert heard(page) == ["method/second/drums"]
    page.locator("#b").select_option("first")
    page.locator("#play").focus()
    page.wait_for_function("player.nodes.length && player.now() > 0.2")
    starts(page)
    page.keyboard.press("Space")  # on the focused button
    assert page.evaluate("player.now()") > 0.2
    assert not page.evaluate("player.playing")
    # A click on the last excerpt plays it from there: the sound's third second.
    page.locator("#frames .part").last.click()
    kind, start, end = page.evaluate("player.song.excerpts.at(-1)")
    assert not page.evaluate("player.playing")
    assert start + 0.3 < page.evaluate("player.now()") < end - 0.3
    page.locator("#play").click()
    page.wait_for_function("player.nodes.length")
    assert page.evaluate("player.started.part.kind") == kind
    assert starts(page) == [(pytest.approx(2.5, abs=0.02), pytest.approx(0.5, abs=0.02))]
    page.wait_for_function("!player.playing")  # after the last excerpt it stops
    page.evaluate("seek(player.parts[0].start + 0.5)")
    left = page.evaluate("state")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_function("player.song")
    restored = page.evaluate("state")
    assert restored == left | {"at": pytest.approx(left["at"], abs=0.01)}
    assert page.evaluate("player.now()") == pytest.approx(left["at"], abs=0.02)


def test_the_mixture_the_truth_and_the_whole_song(folder: Path, page: Page) -> None:
    page.goto(address(folder))
    cell(page, SHORT, "second").click()
    page.wait_for_function("player.nodes.length")
    for key, source, stems in (("m", "mixture", ["mixture"]), ("t", "true", ["vocals", "drums"])):
        page.keyboard.press(key)
        wanted = ["mixture"] if key == "m" else sorted(f"{source}/{stem}" for stem in stems)
        assert heard(page) == wanted
        waves = [truth(folder / "corpus" / "test" / SHORT / f"{s}.wav", page) for s in stems]
        assert error_db(rendered(page, 2.0), np.sum(waves, axis=0)) < -15.0
    starts(page)
    page.keyboard.press("l")
    page.wait_for_function("player.nodes.length")
    ((offset,),) = starts(page)  # without a length
    assert 0.0 < offset < 2.0
    assert page.evaluate("player.nodes.map(({ source }) => [source.loop, source.loopEnd])") == [
        [True, pytest.approx(2.0, abs=1e-3)]
    ] * page.evaluate("player.nodes.length")
    assert "loop=1" in page.url
    page.evaluate("location.hash = ''")  # without a song there is no sound
    page.wait_for_function("!player.playing")
    assert not page.locator("#song").is_visible()


def test_what_cannot_be_heard_is_off(folder: Path, page: Page, tmp_path: Path) -> None:
    """Missing estimates, a method called true, songs that change while they are loaded."""
    shutil.copytree(folder / "page", tmp_path / "page")
    page.goto(address(folder))
    files = dict(zip(page.evaluate("data.songs"), page.evaluate("data.files"), strict=True))
    place = tmp_path / "page" / files[SHORT]
    text = place.read_text(encoding="utf-8")
    assert '"method/first/drums"' in text
    text = text.replace('"method/first/drums"', '"unused"').replace('"method/second/', '"unused/')
    place.write_text(text, encoding="utf-8")
    page.goto((tmp_path / "page" / "index.html").as_uri())
    cell(page, SHORT, "second").click()  # has no sound here: the other method is heard
    page.wait_for_function("player.nodes.length")
    assert heard(page) == ["method/first/vocals"]
    assert page.locator("#sources [data-source=a]").is_disabled()
    assert page.get_by_role("button", name="solo drums").is_disabled()
    page.keyboard.press("a")
    assert heard(page) == ["method/first/vocals"]
    for song in (LONG, SHORT, LONG):
        page.locator("#songs").select_option(song)
    page.wait_for_function("player.nodes.length && songs.size === 2")
    assert page.evaluate("player.song.name") == LONG


def test_a_song_whose_file_is_missing(folder: Path, browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(folder / "page", tmp_path / "page")
    shutil.rmtree(tmp_path / "page" / "songs")
    page = browser.new_page()
    page.goto((tmp_path / "page" / "index.html").as_uri())
    cell(page, SHORT, "second").click()
    page.wait_for_function("!document.getElementById('none').hidden")
    assert page.locator("#none").inner_text() == "This song's file is missing."
    assert not page.locator("#player").is_visible()
    page.close()


def test_it_is_used_by_keyboard_and_on_a_phone(folder: Path, page: Page) -> None:
    page.goto(address(folder))
    page.locator("#heat .cell").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.wait_for_function("state.song !== ''")
    assert label.startswith(page.evaluate("state.song"))
    page.get_by_role("button", name="drums", exact=True).focus()
    page.keyboard.press("Space")  # keeps the focus, and is not the player's
    assert page.evaluate("document.activeElement.dataset.key") == "targets drums"
    assert page.evaluate("state.target") == "drums"
    page.keyboard.press("l")
    assert not page.evaluate("state.loop")
    page.set_viewport_size({"width": 320, "height": 740})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    # The leaderboard is sorted by a click, the best first, and by another the other way.
    page.get_by_role("button", name="drums", exact=True).first.click()
    head = page.locator("#board thead button").first
    for direction, last in (("descending", False), ("ascending", True)):
        head.click()
        assert page.locator("#board th[aria-sort]").get_attribute("aria-sort") == direction
        names = page.locator("#board tbody tr").locator("th").all_inner_texts()
        assert names == (["first", "second"] if last else ["second", "first"])


def test_a_thousand_songs_and_unknown_links(folder: Path, page: Page, tmp_path: Path) -> None:
    text = (folder / "page" / "index.html").read_text(encoding="utf-8")
    many = """<script>{
      const songs = Array.from({length: 1000}, (_, n) => `song ${n}`);
      const found = document.getElementById("data"), all = JSON.parse(found.textContent);
      const fill = (scores) => songs.map((_, n) => scores[n % 2]);
      for (const method of Object.values(all.scores)) for (const target of Object.values(method))
        for (const metric of Object.keys(target)) target[metric] = fill(target[metric]);
      found.textContent = JSON.stringify({...all, songs, files: songs.map(() => null)});
    }</script>"""
    mark = '<script>\n"use strict";\n// What the page shows'
    assert mark in text
    (tmp_path / "index.html").write_text(text.replace(mark, many + mark), encoding="utf-8")
    page.goto((tmp_path / "index.html").as_uri() + "#song=nobody&metric=nothing&at=-3&solo=nose")
    assert page.locator("#heat .cell").count() == 2000
    assert page.evaluate("state.song === '' && state.metric === 'SDR' && !state.solo.length")
    page.locator("#heat .cell").last.click()
    assert page.locator("#none").is_visible()
