"""The page that separates in the browser: its signal processing, and whole songs in Chromium."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from benchmarks.common import chromium, served
from stemforge import Separator, find_models
from stemforge.eval.exports.parity import KerasNets
from stemforge.eval.exports.vectors import write_vectors
from stemforge.eval.web.page import ASSETS, ISOLATING
from stemforge.features.audio.files import load_song
from stemforge.pipelines.commands import main as cli
from stemforge.pipelines.pretrained import home
from tests.conftest import RATE_HZ
from tests.test_exports_files import make
from tests.test_web import small_models

CHROMIUM = chromium()
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]
STEMS = ("vocals", "drums", "bass", "other")
LIMIT_MS = 120_000
# Runs signal.js on golden vectors, given and returned as base64 of float32.
VECTORS = """async ([arrays, stems, shape]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (name) => new Float32Array(bytes(arrays[name]).buffer);
  const text = (values) => {
    const all = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    let letters = "";
    for (let n = 0; n < all.length; n += 8192) {
      letters += String.fromCharCode(...all.subarray(n, n + 8192));
    }
    return btoa(letters);
  };
  const song = floats("waveform");
  const channels = [0, 1].map((c) => song.filter((_, n) => n % 2 === c));
  const estimates = stems.map((stem) => floats(`estimate_${stem}`));
  const seen = { magnitude: [], masks: stems.map(() => []), outputs: stems.map(() => [[], []]) };
  const size = shape.frames * shape.bins * 2;
  const separator = new StemSeparator({ stems: stems.length, ...shape });
  const samples = channels[0].length;
  for (let n = 0; n < separator.segments(samples); n++) {
    seen.magnitude.push(...separator.analyse(channels, n));
    const given = estimates.map((e) => e.slice(n * size, (n + 1) * size));
    separator.synthesise(given, samples, n).forEach((parts, stem) => {
      parts.forEach((part, channel) => seen.outputs[stem][channel].push(...part));
    });
    given.forEach((mask, k) => seen.masks[k].push(...mask));
  }
  const interleaved = ([left, right]) =>
    Float32Array.from({ length: 2 * left.length }, (_, n) => (n % 2 ? right : left)[n >> 1]);
  return {
    magnitude: text(Float32Array.from(seen.magnitude)),
    masks: seen.masks.map((mask) => text(Float32Array.from(mask))),
    outputs: seen.outputs.map((channels) => text(interleaved(channels))),
  };
}"""


# Keeps each decoded song until the test calls the function in `held`.
HOLD = """() => {
  window.held = [];
  const inner = decode;
  decode = async (...given) => {
    const released = new Promise((resolve) => held.push(resolve));
    const channels = await inner(...given);
    await released;
    return channels;
  };
}"""
COUNT_STARTS = """() => {
  window.started = 0;
  const { start } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (...given) {
    window.started++;
    return start.apply(this, given);
  };
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test where anything goes wrong on it, or is asked of elsewhere."""
    context = browser.new_context(viewport={"width": 900, "height": 800})
    wrong: list[str] = []
    opened = context.new_page()
    opened.set_default_timeout(LIMIT_MS)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    ours = ("http://127.0.0.1:", "data:", "blob:", "file:")
    opened.on("request", lambda r: wrong.extend([] if r.url.startswith(ours) else [r.url]))
    yield opened
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, as the command writes it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which fetches LiteRT.js: apt-get install npm")
    root = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(home.VARIABLE, str(root / "home"))
        command = [str(root / "page"), "--model", str(models)]
        assert cli.main(["web", *command]) == 0
        shutil.rmtree(root / "page")
        assert cli.main(["web", *command, "--offline"]) == 0  # LiteRT.js is kept
    return root / "page"


def encoded(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def decoded(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.mark.parametrize("stems", [("vocals",), ("vocals", "rest", "drums")])
def test_the_signal_processing_computes_the_golden_vectors(
    stems: tuple[str, ...], page: Page, tmp_path: Path, random: np.random.Generator
) -> None:
    nets = [KerasNets(make((stem,), seed=number)) for number, stem in enumerate(stems)]
    song = random.normal(0, 0.2, (3 * RATE_HZ // 2, 2)).astype(np.float32)  # 5 segments
    song[30_000:40_000] = 0.0
    write_vectors(tmp_path, song, nets)
    arrays = dict(np.load(tmp_path / "vectors.npz"))
    interface = nets[0].interface
    shape = {
        "frames": interface.frames,
        "bins": interface.bins,
        "length": interface.frame_length_samples,
        "hop": interface.frame_step_samples,
    }
    page.add_script_tag(path=str(ASSETS / "signal.js"))
    texts = {name: encoded(values) for name, values in arrays.items()}
    found = page.evaluate(VECTORS, [texts, list(stems), shape])
    np.testing.assert_allclose(
        decoded(found["magnitude"]), arrays["magnitude"].ravel(), rtol=1e-5, atol=1e-5
    )
    for stem, mask, output in zip(stems, found["masks"], found["outputs"], strict=True):
        np.testing.assert_allclose(decoded(mask), arrays[f"mask_{stem}"].ravel(), atol=1e-5)
        np.testing.assert_allclose(decoded(output), arrays[f"output_{stem}"].ravel(), atol=1e-5)


def song_of(path: Path, seconds: float, channels: int) -> Path:
    """A song in 16 bits, which a browser and we decode to the same samples."""
    random = np.random.default_rng(5)
    wave = 0.2 * random.standard_normal((round(seconds * RATE_HZ), channels))
    soundfile.write(path, np.clip(wave, -0.9, 0.9), RATE_HZ, subtype="PCM_16")
    return path


def separate(page: Page, url: str, song: Path) -> dict[str, NDArray[np.float32]]:
    """What the links of a page save."""
    page.goto(f"{url}/index.html")
    return separate_here(page, song)


def separate_here(page: Page, song: Path) -> dict[str, NDArray[np.float32]]:
    page.set_input_files("#file", song)
    page.wait_for_selector("#listen:not([hidden]), #said:not(:empty)")
    assert page.inner_text("#said") == ""
    found = {}
    for link in page.query_selector_all("#stems a"):
        stem = link.evaluate("link => link.parentElement.dataset.stem")
        assert link.get_attribute("download") == f"{song.stem} - {stem}.wav"
        with page.expect_download() as download:
            link.click()
        wave, rate_hz = soundfile.read(download.value.path(), dtype="float32", always_2d=True)
        assert rate_hz == RATE_HZ
        found[stem] = wave
    return found


@pytest.mark.parametrize(
    ("channels", "headers"), [(2, ISOLATING), (1, {})], ids=["threads", "mono, one thread"]
)
def test_a_song_has_the_stems_of_the_command(
    channels: int, headers: dict[str, str], folder: Path, models: Path, page: Page, tmp_path: Path
) -> None:
    song = song_of(tmp_path / "My song.wav", 5.3, channels)
    with served(folder, headers) as url:
        found = separate(page, url, song)
        assert page.evaluate("crossOriginIsolated") is bool(headers)
    waveform, rate_hz = load_song(song)
    separator = Separator.load(find_models(models, runtime="litert"))
    expected = separator.separate(waveform, sample_rate_hz=rate_hz)
    assert set(found) == set(STEMS)
    for stem in STEMS:
        assert found[stem].shape == expected[stem].shape
        assert np.abs(found[stem] - expected[stem]).max() < 1e-3


def test_solo_and_mute_choose_what_is_heard(folder: Path, page: Page, tmp_path: Path) -> None:
    def gains() -> dict[str, float]:
        return dict(page.evaluate("[...player.gains]"))

    def press(what: str) -> None:
        page.get_by_role("button", name=what, exact=True).click()

    with served(folder, {}) as url:
        separate(page, url, song_of(tmp_path / "song.wav", 2.0, 2))
        press("Solo bass")
        assert gains() == {"vocals": 0, "drums": 0, "bass": 1, "other": 0}
        press("Solo vocals")
        press("Mute bass")
        assert gains() == {"vocals": 1, "drums": 0, "bass": 0, "other": 0}
        press("Solo bass")
        press("Solo vocals")
        assert gains() == {"vocals": 1, "drums": 1, "bass": 0, "other": 1}
        press("Play")
        page.wait_for_function("player.now() > 0.2")
        page.evaluate("player.seek(1.5)")
        page.wait_for_function("!player.playing")  # at the song's end
        assert page.evaluate("player.now()") == pytest.approx(2.0, abs=0.01)
        assert page.inner_text("#time") == "0:02 / 0:02"


def test_a_song_can_be_cancelled_and_another_one_taken(
    folder: Path, page: Page, tmp_path: Path
) -> None:
    with served(folder, {}) as url:
        page.goto(f"{url}/index.html")
        page.set_input_files("#file", song_of(tmp_path / "long.wav", 200.0, 2))
        page.wait_for_function("document.getElementById('bar').value > 0")
        page.click("#cancel")
        assert page.is_hidden("#work")
        assert page.evaluate("worker") is None
        found = separate_here(page, song_of(tmp_path / "short.wav", 1.0, 2))
        assert {wave.shape for wave in found.values()} == {(RATE_HZ, 2)}


def test_a_song_in_the_place_of_one_that_is_decoded_is_the_only_one(
    folder: Path, page: Page, tmp_path: Path
) -> None:
    first, second = (song_of(tmp_path / f"{n}.wav", 20.0 - 18 * n, 2) for n in (0, 1))
    with served(folder, {}) as url:
        page.goto(f"{url}/index.html")
        page.evaluate(HOLD)
        page.set_input_files("#file", first)
        page.set_input_files("#file", second)
        page.evaluate("held.splice(1, 1)[0]()")  # the second is decoded first
        page.wait_for_selector("#listen:not([hidden])")
        assert page.inner_text("#title") == "1.wav"
        page.evaluate("held.splice(0, 1)[0]()")
        page.wait_for_timeout(300)
        assert page.evaluate("worker") is None
        assert page.evaluate("player.duration") == pytest.approx(2.0)
        page.set_input_files("#file", first)
        page.click("#cancel")
        page.evaluate("held.splice(0, 1)[0]()")
        page.wait_for_timeout(300)
        assert page.evaluate("worker") is None
        assert page.is_hidden("#work")


def test_playing_twice_plays_once(folder: Path, page: Page, tmp_path: Path) -> None:
    with served(folder, {}) as url:
        page.goto(f"{url}/index.html")
        page.evaluate(COUNT_STARTS)
        page.set_input_files("#file", song_of(tmp_path / "song.wav", 2.0, 2))
        page.wait_for_selector("#listen:not([hidden])")
        page.evaluate("player.play(), player.play()")
        page.wait_for_function("player.playing")
        assert page.evaluate("started") == 4
        page.evaluate("Promise.all([player.seek(0.3), player.seek(0.4)]).then(() => null)")
        assert page.evaluate("player.playing")
        assert page.evaluate("player.now()") >= 0.39
        page.click("#play")
        assert not page.evaluate("player.playing")


def test_files_that_cannot_be_separated(folder: Path, page: Page, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        page.set_input_files("#file", path)
        page.wait_for_selector("#said:not(:empty)")
        assert page.is_hidden("#work")
        return page.inner_text("#said")

    with served(folder, {}) as url:
        page.goto(f"{url}/index.html")
        (tmp_path / "text.mp3").write_text("not a song")
        said = refused(tmp_path / "text.mp3")
        assert said.startswith("text.mp3: this browser cannot decode it: try WAV, FLAC, MP3")
        # By hand: in a minute of four stems 44100 * 60 * (8 + 4 * 12) bytes, of 1.5e9.
        soundfile.write(tmp_path / "long.wav", np.zeros(11 * 60 * 3000), 3000, subtype="PCM_U8")
        said = refused(tmp_path / "long.wav")
        assert said == "long.wav: 11 minutes: at most 10 fit into a page: cut it first"
        surround = np.zeros((3000, 6))
        soundfile.write(tmp_path / "surround.wav", surround, 48000)
        assert (
            refused(tmp_path / "surround.wav") == "surround.wav: 6 channels: only mono and stereo"
        )


def test_a_page_without_a_server_says_what_it_needs(folder: Path, page: Page) -> None:
    page.goto((folder / "index.html").as_uri())
    assert "Open this page from a server, such as" in page.inner_text("#said")
    assert page.is_disabled("#file")


def test_a_missing_model_is_named(folder: Path, page: Page, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "models" / "0-bass.tflite16").unlink()
    with served(tmp_path / "page", {}) as url:
        page.goto(f"{url}/index.html")
        page.set_input_files("#file", song_of(tmp_path / "song.wav", 1.0, 2))
        page.wait_for_selector("#said:not(:empty)")
        assert page.inner_text("#said") == (
            "models/0-bass.tflite16: cannot be loaded: 404 File not found: reload the page"
        )


def test_the_page_is_for_small_screens_and_keyboards_too(
    folder: Path, page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 320, "height": 600})
    with served(folder, {}) as url:
        separate(page, url, song_of(tmp_path / "song.wav", 1.0, 2))
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.focus("#play")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.locator(":focus").get_attribute("aria-label") == "Solo bass"
        assert page.evaluate("player.gains.get('drums')") == 0
