"""Time of reading a song of each format: ours against libsndfile alone, and ffmpeg alone.

    python -m benchmarks.reading CORPUS_ROOT [--copies 8]

Encodes the mixture of the corpus' first test song, so many times in a row, with ffmpeg, and reads
it to its end in turns: as `stemforge separate` does; by libsndfile, through soundfile; and by
`ffmpeg -f f32le` into a pipe. libsndfile reads MP3 in one process less, but not always to its
end (docs/formats.md). Medians of the turns.
"""

import functools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import soundfile

from benchmarks import common
from stemforge.features.audio import ffmpeg
from stemforge.features.audio.ffmpeg import CHUNK_SAMPLES
from stemforge.features.audio.files import stream_song

# By ending: options of ffmpeg.
FORMATS = {
    "wav": ("-c:a", "pcm_s16le"),
    "flac": ("-c:a", "flac"),
    "mp3": ("-c:a", "libmp3lame", "-q:a", "2"),
    "m4a": ("-c:a", "aac", "-b:a", "256k"),
    "opus": ("-c:a", "libopus", "-b:a", "160k"),
}
LIBSNDFILE = ("wav", "flac", "mp3", "opus")


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    parser.add_argument("--copies", type=int, default=8, help="of the song (%(default)s)")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args(argv)
    song = sorted((arguments.corpus / "test").glob("*.stem.mp4"))[0]
    with tempfile.TemporaryDirectory() as folder:
        files = {ending: Path(folder) / f"song.{ending}" for ending in FORMATS}
        for ending, options in FORMATS.items():
            again = ("-stream_loop", str(arguments.copies - 1), "-i", song, "-map", "0:a:0")
            ffmpeg.run_ffmpeg("ffmpeg", *again, *options, files[ending])
        ways: dict[tuple[str, str], Callable[[], float]] = {
            (ending, way): functools.partial(common.timed, functools.partial(read, file))
            for ending, file in files.items()
            for way, read in READERS.items()
            if way != "libsndfile" or ending in LIBSNDFILE
        }
        seconds = common.turn_by_turn(ways, arguments.turns, warm_up=1)
        audio_s = soundfile.info(files["wav"]).duration
    rows = []
    for ending in FORMATS:
        ours = seconds[ending, "stemforge"]
        others = [seconds.get((ending, way)) for way in ("libsndfile", "ffmpeg")]
        cells = ["" if s is None else f"{1000 * s:.0f} ms ({ours / s:.2f})" for s in others]
        rows.append((ending, f"{1000 * ours:.0f} ms", *cells))
    names = (f"{audio_s:.0f} s of", "stemforge", "libsndfile (ratio)", "ffmpeg (ratio)")
    common.print_table(names, rows)


def by_stemforge(path: Path) -> None:
    _, blocks = stream_song(path)
    for _ in blocks:
        pass


def by_libsndfile(path: Path) -> None:
    with soundfile.SoundFile(path) as file:
        while len(file.read(CHUNK_SAMPLES, dtype="float32", always_2d=True)):
            pass


def by_ffmpeg(path: Path) -> None:
    command = [ffmpeg.find_program("ffmpeg"), "-v", "error", "-nostdin", "-i", str(path)]
    with subprocess.Popen([*command, "-f", "f32le", "-"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        while process.stdout.read(8 * CHUNK_SAMPLES):
            pass


READERS = {"stemforge": by_stemforge, "libsndfile": by_libsndfile, "ffmpeg": by_ffmpeg}

if __name__ == "__main__":
    main()
