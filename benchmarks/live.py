"""What a shorter delay costs in sound: SDR of `stemforge live` against its latency.

    python -m benchmarks.live EXPORTS FOLDER...

EXPORTS holds TFLite files of vocals and accompaniment, such as `stemforge convert-spleeter` makes
of Deezer's 2stems; each FOLDER holds MUSDB's stem files. Every song is separated as a whole, and by
the live engine with windows of several lengths, hops and lookaheads; excerpts are played twice, and
scored the second time, when the windows are full. SDR is museval's: the median over frames of 1 s,
and here the mean of the two stems. The results are in DOCS/live/sound.json: a song that is there is
not separated again. Then come the table and the plot of docs/live.md: mean differences to the whole
song's separation, in the plot by folders.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.eval.separation.filters import Estimates
from stemforge.eval.separation.live import LiveSong, Window
from stemforge.eval.separation.separator import Separator
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.live import planning
from stemforge.train.config import TFLiteFormat
from stemforge.train.model_files import Interface, tflite_name
from stemforge.unfinished import finishing

STEMS = common.PAIR
WHOLE = "whole song"
EXCERPT_S = 30.0  # what is shorter is played twice, and scored the second time
FLOAT32: TFLiteFormat = "float32"
INT8: TFLiteFormat = "int8_mixed"
INT8_SIZES = (128, 8)  # frames and hop
DASHES = {4: "-", 8: "--", 16: ":"}  # by hop
Stems = Mapping[str, Waveform]
Results = dict[str, dict[str, dict[str, float]]]
"""SDR in dB by setting, song (FOLDER's parent / name) and stem."""


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("exports", type=Path, help="TFLite files of vocals and accompaniment")
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="of stem files")
    parser.add_argument("--docs", type=Path, default=common.ROOT / "docs", help="(%(default)s)")
    parser.add_argument("--frames", type=int, nargs="+", help="these windows alone (all)")
    arguments = parser.parse_args(argv)
    place = arguments.docs / "live"
    place.mkdir(parents=True, exist_ok=True)
    path = place / "sound.json"
    results: Results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for folder in arguments.folders:
        for file in sorted(folder.glob("*.stem.mp4")):
            song = f"{folder.resolve().parent.name}/{file.name.removesuffix('.stem.mp4')}"
            names = [WHOLE, *(name for named in grid(arguments.frames).values() for name in named)]
            if all(song in results.get(name, {}) for name in names):
                continue
            print(song, file=sys.stderr)
            references = common.vocals_and_rest(file)
            length = len(references[STEMS[0]])
            mixture = np.sum([*references.values()], axis=0)
            played = np.concatenate([mixture] * (1 + (length < EXCERPT_S * common.RATE_HZ)))
            for setting, estimates in separations(arguments.exports, played, arguments.frames):
                last = {stem: wave[-length:] for stem, wave in estimates.items()}
                scores = common.medians(song, references, last, ["SDR"])
                results.setdefault(setting, {})[song] = {s: v["SDR"] for s, v in scores.items()}
            with finishing(path) as fresh:
                text = json.dumps(results, indent=1, sort_keys=True)
                fresh.write_text(text + "\n", encoding="utf-8")
    common.print_table(*table(results))
    for stem in STEMS:
        median = np.median([sdr[stem] for sdr in results[WHOLE].values()])
        print(f"\n{stem}: {median:.2f} dB is the median of the whole songs' separation", end="")
    print()
    plot(place / "sound.png", results)


class Once:
    """Nets that compute a window once, however many engines in a row ask for it."""

    def __init__(self, path: Path, *, frames: int | None) -> None:
        self._nets = LiteRTNets(path, threads=1, frames=frames)
        self.interface = self._nets.interface
        self._window = np.zeros(0, np.float32)
        self._found: dict[str, Estimates] = {}

    def __call__(self, mixture: Estimates) -> dict[str, Estimates]:
        """As LiteRTNets."""
        if not np.array_equal(mixture, self._window):
            self._window, self._found = mixture.copy(), self._nets(mixture)
        return self._found


def grid(frames: Sequence[int] | None) -> dict[tuple[TFLiteFormat, int], dict[str, Window]]:
    """Windows by their names, and those by the files' format and the frames."""
    found: dict[tuple[TFLiteFormat, int], dict[str, Window]] = {}
    for window in (setting.window for setting in planning.SETTINGS):
        for precision in (FLOAT32, INT8):
            if precision == INT8 and (window.frames, window.hop) != INT8_SIZES:
                continue
            if frames is None or window.frames in frames:
                named = found.setdefault((precision, window.frames), {})
                named[name_of(precision, window)] = window
    return found


def name_of(precision: TFLiteFormat, window: Window) -> str:
    return f"{precision} {window.frames} {window.hop} {window.lookahead}"


def load(exports: Path, precision: TFLiteFormat, frames: int | None) -> Separator:
    paths = [exports / stem / tflite_name(stem, precision) for stem in STEMS]
    return Separator([Once(path, frames=frames) for path in paths])


def separations(
    exports: Path, mixture: Waveform, frames: Sequence[int] | None
) -> Iterator[tuple[str, Stems]]:
    """Estimates of a song by each setting."""
    whole = load(exports, FLOAT32, None)
    yield WHOLE, whole.separate(mixture, sample_rate_hz=common.RATE_HZ)
    for (precision, size), windows in grid(frames).items():
        separator = load(exports, precision, size)
        engines = {
            name: separator.start_live(
                hop=window.hop, lookahead=window.lookahead, channels=2,
                sample_rate_hz=common.RATE_HZ,
            )
            for name, window in windows.items()
        }  # fmt: skip
        # Hops are multiples of the shortest: there the nets run once for all.
        hop = min(window.hop for window in windows.values())
        yield from play(engines, mixture, block=hop * separator.framing.step_samples).items()


def play(engines: dict[str, LiveSong], mixture: Waveform, *, block: int) -> dict[str, Stems]:
    """What each engine makes of a song, in time with it; all get each block in turn."""
    longest = max(engine.latency for engine in engines.values())
    wave = np.concatenate([mixture, np.zeros((longest, 2), np.float32)])
    heard: dict[str, dict[str, list[Waveform]]]
    heard = {setting: {stem: [] for stem in STEMS} for setting in engines}
    for start in range(0, len(wave), block):
        for setting, engine in engines.items():
            for stem, part in engine.push(wave[start : start + block]).items():
                heard[setting][stem].append(part)
    return {
        setting: {
            stem: np.concatenate(parts)[engines[setting].latency :][: len(mixture)]
            for stem, parts in found.items()
        }
        for setting, found in heard.items()
    }


# What docs/live.md and pipelines/live/planning.py have of it.


def losses(results: Results, group: str = "") -> dict[str, float]:
    """How much lower SDR is than the whole song's, dB: means of songs and stems, by setting.

    Args:
        results: as measured.
        group: how the names of the songs that count begin.

    Raises:
        ValueError: a setting was measured with other songs.
    """
    whole = {song: sdr for song, sdr in results[WHOLE].items() if song.startswith(group)}
    found = {}
    for name, songs in results.items():
        sdrs = {song: sdr for song, sdr in songs.items() if song.startswith(group)}
        if sdrs.keys() != whole.keys():
            raise ValueError(f"{name}: not the songs of {WHOLE}: measure again")
        found[name] = float(
            np.mean([whole[song][stem] - sdr[stem] for song, sdr in sdrs.items() for stem in STEMS])
        )
    del found[WHOLE]
    return found


def latency_ms(window: Window) -> float:
    """Of the engine, at the nets' rate."""
    interface = Interface(STEMS, window.frames, 1024, 4096, 1024, common.RATE_HZ)
    return 1000.0 * planning.Delays(interface, common.RATE_HZ).engine_s(window)


def label(precision: TFLiteFormat, frames: int) -> str:
    return f"{frames} frames" + ("" if precision == FLOAT32 else f", {precision}")


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: a row for each hop and lookahead, a column for each window."""
    found, windows = losses(results), grid(None)
    cells: dict[tuple[float, int, int], dict[tuple[TFLiteFormat, int], str]] = {}
    for column, named in windows.items():
        for name, window in named.items():
            row = cells.setdefault((latency_ms(window), window.hop, window.lookahead), {})
            row[column] = f"{found[name]:.2f}" if name in found else ""
    return (
        ["delay, ms", "hop", "lookahead", *(label(*column) for column in windows)],
        [
            [f"{late:.0f}", f"{hop}", f"{lookahead}", *(row.get(column, "") for column in windows)]
            for (late, hop, lookahead), row in sorted(cells.items())
        ],
    )


def plot(path: Path, results: Results) -> None:
    """Loss against delay; a panel a folder, a line a window and hop."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(song.partition("/")[0] + "/" for song in results[WHOLE]))
    figure = Figure(figsize=(5.5 * len(groups), 4.5), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for panel, group in zip(panels, groups, strict=True):
        found = losses(results, group)
        for number, (column, named) in enumerate(grid(None).items()):
            for hop, dashes in DASHES.items():
                points = sorted(
                    (latency_ms(window), -found[name])
                    for name, window in named.items()
                    if window.hop == hop and name in found
                )
                if points:
                    panel.plot(
                        *zip(*points, strict=True), dashes, marker=".", color=f"C{number}",
                        label=f"{label(*column)}, hop {hop}",
                    )  # fmt: skip
        panel.set_title(group.removesuffix("/"), fontsize="medium")
        panel.set_xlabel("delay of the windows, ms")
        panel.grid(color="0.9")
    panels[0].set_ylabel("SDR against the whole song's, dB")
    panels[-1].legend(fontsize="x-small")
    with finishing(path) as fresh:
        figure.savefig(fresh, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main()
