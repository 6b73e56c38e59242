"""A folder of songs by one command, against the same songs one by one in a process.

    python -m benchmarks.songs [--model spleeter:2stems] [--songs 20] [--seconds 60] [--turns 3]

The songs are noise. In process: loaded and warm, on samples in memory, nothing written; what the
command adds is its start, reading, and writing of the stems, as WAV files and, from MP3 files, as
MP3 files. Medians of the turns.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import soundfile

from benchmarks import common, separate
from benchmarks.common import RATE_HZ
from stemforge.pipelines.pretrained.catalogue import DEFAULT

THIS = (sys.executable, "-m", "benchmarks.songs")
STEMFORGE = (sys.executable, "-m", "stemforge.pipelines.commands.main")
IN_PROCESS = "in process"


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("--model", default=DEFAULT, help="(%(default)s)")
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60, help="of a song (%(default)s)")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for ending in ("wav", "mp3"):
            song = root / f"song.{ending}"
            soundfile.write(song, separate.noise(arguments.seconds), RATE_HZ)
            (root / ending).mkdir()
            for number in range(arguments.songs):
                (root / ending / f"{number}.{ending}").symlink_to(song)
        compare(arguments, root)


def compare(arguments: argparse.Namespace, root: Path) -> None:
    """Prints the table."""

    def command(ending: str) -> float:
        with tempfile.TemporaryDirectory() as out:
            line = [*STEMFORGE, "separate", root / ending, "--model", arguments.model, "--runtime",
                    "litert", "--codec", ending, "--output", out]  # fmt: skip
            seconds, _ = common.measure(line)
            folders = {path.parent for path in Path(out).rglob(f"*.{ending}")}
            if len(folders) != arguments.songs:
                raise RuntimeError(f"{len(folders)} of {arguments.songs} songs have stems")
        return seconds

    with common.server(*THIS, "serve", arguments.model, arguments.seconds) as in_process:
        in_process(1)  # caches, threads, memory
        runs: dict[str, Callable[[], float]] = {
            IN_PROCESS: functools.partial(in_process, arguments.songs)
        }
        runs |= {ending: functools.partial(command, ending) for ending in ("wav", "mp3")}
        found = common.turn_by_turn(runs, arguments.turns)
    audio_s = arguments.songs * arguments.seconds
    rows = [
        (name if name == IN_PROCESS else f"{name} to {name}", f"{value:.1f}",
         f"{audio_s / value:.0f}", f"{value / found[IN_PROCESS]:.2f}x")
        for name, value in found.items()
    ]  # fmt: skip
    columns = (f"{arguments.songs} songs of {arguments.seconds} s", "seconds", "times real time",
               "of that in process")  # fmt: skip
    common.print_table(columns, rows)


def serve(model: str, seconds: int) -> None:
    """Separates so many songs as `common.server` says."""
    from stemforge import Separator, find_models
    from stemforge.pipelines.pretrained.places import resolve

    separator = Separator.load(find_models(resolve(model), runtime="litert"))
    waveform = separate.noise(seconds)
    print("ready", flush=True)
    for line in sys.stdin:
        songs = int(line)

        def work(songs: int = songs) -> None:
            for _ in range(songs):
                separator.separate(waveform, sample_rate_hz=RATE_HZ)

        print(common.timed(work), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main()
