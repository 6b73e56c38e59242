"""`stemforge separate`: songs in, one file per stem out."""

import argparse
import glob
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import Mask, MaskExtension, Precision, Runtime
from stemforge.features.audio.formats import CODECS, SUBTYPES
from stemforge.features.corpus.sources import STEM_SUFFIX
from stemforge.machine import has_bfloat16
from stemforge.pipelines.console import progress, say

if TYPE_CHECKING:
    from stemforge.eval.separation.separator import Separator

# Heavy imports wait until the command runs: help answers within a second.

STDIN = "-"
FILENAME_FORMAT = "{filename}/{instrument}.{codec}"
MWF_WINDOW_FRAMES = 300
# Endings of the files that are read from a folder.
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("aac", "aif", "aiff", "flac", "m4a", "mkv", "mov", "mp3"),
        *("mp4", "oga", "ogg", "opus", "wav", "webm", "wma"),
    )
)


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "separate",
        help="split songs into stems",
        description="Writes OUTPUT/<song>/<stem>.wav for each song, at its own rate, length and "
        "number of channels.",
    )
    option = parser.add_argument
    option(
        "songs",
        nargs="+",
        metavar="SONG",
        help="audio files (wav, flac, mp3, m4a, ogg or whatever ffmpeg reads), folders of them, "
        "patterns such as 'music/*.mp3', or - for standard input",
    )
    option(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a model directory or a folder of them (such as models/), which need TensorFlow; or "
        "a .tflite file or a folder of them (such as exports/)",
    )
    option("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    _add_net_options(parser.add_argument_group("the nets").add_argument)
    _add_mask_options(parser.add_argument_group("the masks").add_argument)
    _add_file_options(parser.add_argument_group("the files").add_argument)
    parser.set_defaults(run=separate_songs, extra="train")


def _add_net_options(option: Any) -> None:
    option(
        "--runtime",
        choices=get_args(Runtime),
        help="what runs the nets: tensorflow for model directories, litert for .tflite files "
        "(default: chosen by what --model holds; if it holds both, tensorflow where installed)",
    )
    option(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="number format that TensorFlow computes in; bfloat16 is used only on a CPU with "
        "instructions for it (default: %(default)s)",
    )
    option(
        "--force-precision",
        action="store_true",
        help="use the chosen --precision on any CPU, even where it is slower",
    )
    option(
        "--max-frequency-hz",
        type=float,
        metavar="HZ",
        help="highest frequency that the nets process (default: as in training)",
    )
    option(
        "--overlap",
        type=int,
        default=0,
        metavar="FRAMES",
        help="overlap of consecutive parts of a song, with a cross-fade, against audible seams "
        "(default: none)",
    )


def _add_mask_options(option: Any) -> None:
    option(
        "--stems", metavar="A,B,...", help="write only these stems, in this order (default: all)"
    )
    option(
        "--mask",
        choices=get_args(Mask),
        help="ratio divides the mixture among all models' stems; direct uses each net's own mask "
        "(default: ratio, or direct for a single stem)",
    )
    option(
        "--exponent",
        type=float,
        default=2.0,
        help="power of the estimates in a ratio mask (default: %(default)s)",
    )
    option(
        "--mask-extension",
        choices=get_args(MaskExtension),
        default="zeros",
        help="the mask above the nets' highest frequency: zero, or the mask's average below it "
        "(default: %(default)s)",
    )
    option(
        "--mwf", action="store_true", help="use a multichannel Wiener filter instead of the mask"
    )
    option(
        "--mwf-window",
        type=int,
        metavar="FRAMES",
        help=f"length of the windows of the Wiener filter (default: {MWF_WINDOW_FRAMES})",
    )
    option("--residual", action="store_true", help="also write the mixture minus all these stems")
    option("--instrumental", action="store_true", help="also write the mixture minus the vocals")


def _add_file_options(option: Any) -> None:
    option("--offset", type=float, default=0.0, metavar="S", help="seconds to skip at the start")
    option("--duration", type=float, metavar="S", help="seconds to separate (default: to the end)")
    option(
        "--codec",
        choices=CODECS,
        default="wav",
        help="format of the results (default: %(default)s)",
    )
    option(
        "--subtype",
        choices=SUBTYPES,
        help="sample format of wav and flac (default: PCM_16)",
    )
    option("--bitrate", metavar="128k", help="bitrate of mp3, m4a and opus (default: 192k)")
    option(
        "--filename-format",
        default=FILENAME_FORMAT,
        metavar="TEXT",
        help="names of the results in OUTPUT; {filename} and {foldername} are the song's "
        "(default: %(default)s)",
    )
    option("--overwrite", action="store_true", help="replace existing results")
    option("--json", action="store_true", help="print a summary as JSON")


def separate_songs(arguments: argparse.Namespace) -> None:
    """`stemforge separate`.

    Raises:
        UserError: an option does not fit, or some songs could not be separated. All others
            are separated before it is raised.
    """
    from stemforge.features.audio.codecs import check_codec

    check_codec(arguments.codec, subtype=arguments.subtype, bitrate=arguments.bitrate)
    if not 0.0 <= arguments.offset < math.inf:
        raise UserError(f"--offset {arguments.offset}: must be 0 or more")
    if arguments.duration is not None and not 0.0 < arguments.duration < math.inf:
        raise UserError(f"--duration {arguments.duration}: must be more than 0")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output {arguments.output}: a file, not a folder: choose a folder")
    with ExitStack() as stack:
        songs = find_songs(arguments.songs, stack)
        separator = _load(arguments)
        targets = {song: _targets(song, separator.stems, arguments) for song in songs}
        _check_targets(targets, overwrite=arguments.overwrite)
        done: list[dict[str, Any]] = []
        failed: list[dict[str, str]] = []
        for song, paths in targets.items():
            try:
                done.append(_separate_song(separator, song, paths, arguments))
            except UserError as error:
                text = str(error)
                text = text if song.name in text else f"{song.name}: {text}"
                failed.append({"song": str(song), "error": text})
                if len(songs) > 1:
                    say(f"stemforge: {text}")
        if arguments.json:
            print(json.dumps({"songs": done, "failed": failed}, indent=2, ensure_ascii=False))
    if failed:
        text = failed[0]["error"]
        if len(songs) > 1:
            text = f"{len(failed)} of {len(songs)} songs were not separated, the first: {text}"
        raise UserError(text)


def find_songs(names: Sequence[str], stack: ExitStack) -> list[Path]:
    """Files, the audio files in folders, those that patterns match, and standard input.

    Args:
        names: as on the command line.
        stack: keeps the copy of standard input until the end.

    Returns:
        Each once, in the order of the names; sorted within folders and patterns.

    Raises:
        UserError: a name matches nothing, or a folder holds no audio file.
    """
    songs: list[Path] = []
    for name in names:
        path = Path(name)
        if name == STDIN:
            songs.append(_spool_stdin(stack))
        elif path.is_dir():
            places = [path / place for place in storage.list_files(str(path))]
            found = sorted(file for file in places if file.suffix.lower() in ENDINGS)
            if not found:
                raise UserError(f"{path}: no audio file in it")
            songs += found
        elif path.is_file():
            songs.append(path)
        else:
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            found = [match for match in matches if match.is_file()]
            if not found:
                raise UserError(f"{path}: no such file")
            songs += found
    return list(dict.fromkeys(songs))


def _spool_stdin(stack: ExitStack) -> Path:
    # A file, because ffmpeg must seek in containers such as MP4.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stemforge-")))
    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise UserError("standard input is empty")
    return path


def _load(arguments: argparse.Namespace) -> "Separator":
    mwf_window = arguments.mwf_window
    if mwf_window is not None and not arguments.mwf:
        raise UserError(f"--mwf-window {mwf_window}: needs --mwf: add --mwf, or remove it")
    if mwf_window is None and arguments.mwf:
        mwf_window = MWF_WINDOW_FRAMES
    from stemforge.eval.separation.separator import Separator, find_models

    return Separator.load(
        find_models(arguments.model, runtime=arguments.runtime),
        runtime=arguments.runtime,
        precision=_precision(arguments),
        max_frequency_hz=arguments.max_frequency_hz,
        stems=arguments.stems.split(",") if arguments.stems else None,
        mask=arguments.mask,
        exponent=arguments.exponent,
        mask_extension=arguments.mask_extension,
        mwf_window_frames=mwf_window,
        overlap_frames=arguments.overlap,
        residual=arguments.residual,
        instrumental=arguments.instrumental,
    )


def _precision(arguments: argparse.Namespace) -> Any:
    """The chosen precision; float32 where bfloat16 would only be slower on this CPU."""
    if arguments.precision == "bfloat16" and not arguments.force_precision and not has_bfloat16():
        say(
            "--precision bfloat16: this CPU has no instructions for it, so it would take several "
            "times as long: using float32 instead (--force-precision keeps bfloat16)"
        )
        return "float32"
    return arguments.precision


def song_name(song: Path) -> str:
    """A song's name: its file's without the ending, .stem.mp4 included."""
    return song.name[: -len(STEM_SUFFIX)] if song.name.lower().endswith(STEM_SUFFIX) else song.stem


def _targets(song: Path, stems: Sequence[str], arguments: argparse.Namespace) -> dict[str, Path]:
    text: str = arguments.filename_format
    try:
        names = {
            stem: text.format(
                filename=song_name(song),
                foldername=song.resolve().parent.name,
                instrument=stem,
                codec=arguments.codec,
            )
            for stem in stems
        }
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"--filename-format {text}: {error} is not supported; supported: "
            "{{filename}}, {{foldername}}, {{instrument}} and {{codec}}"
        ) from None
    return {stem: arguments.output / name for stem, name in names.items()}


def _check_targets(targets: dict[Path, dict[str, Path]], *, overwrite: bool) -> None:
    taken: dict[Path, str] = {}
    for song in targets:
        taken[song.resolve()] = f"{song} itself"
    for song, paths in targets.items():
        for stem, path in paths.items():
            what = f"{stem} of {song}"
            other = taken.setdefault(path.resolve(), what)
            if other != what:
                raise UserError(
                    f"{path}: {what} and {other} would both be written there: "
                    "change --filename-format"
                )
            if path.exists() and not overwrite:
                raise UserError(f"{path}: already exists: add --overwrite to replace it")


def _separate_song(
    separator: "Separator", song: Path, paths: dict[str, Path], arguments: argparse.Namespace
) -> dict[str, Any]:
    from stemforge.features.audio.files import cut, stream_song
    from stemforge.pipelines.running.estimates import write_estimates

    started = time.perf_counter()
    info, blocks = stream_song(song)
    rate_hz = info.sample_rate_hz
    start = round(arguments.offset * rate_hz)
    length = info.samples if info.samples >= 0 else math.inf  # some containers do not say
    if start and start >= length:
        raise UserError(f"--offset {arguments.offset}: the song has only {length / rate_hz:.2f} s")
    wanted = None if arguments.duration is None else max(1, round(arguments.duration * rate_hz))
    part = cut(blocks, start=start, samples=wanted)
    expected = min(length - start, math.inf if wanted is None else wanted) / rate_hz
    total = round(expected) if expected < math.inf else None
    samples = 0
    with progress(total, label=song.name[:30], unit="audio-s") as bar:

        def watched() -> Iterator[Any]:
            nonlocal samples
            for block in part:
                yield block
                samples += len(block)
                bar.update(round(samples / rate_hz) - bar.n)

        clipped = write_estimates(
            paths,
            separator.separate_stream(watched(), sample_rate_hz=rate_hz),
            codec=arguments.codec,
            channels=info.channels,
            sample_rate_hz=rate_hz,
            subtype=arguments.subtype,
            bitrate=arguments.bitrate,
        )
    if not arguments.json:
        say(", ".join(map(str, paths.values())))
    loud = {stem: count for stem, count in clipped.items() if count}
    if loud:
        counts = ", ".join(f"{count} of {stem}" for stem, count in loud.items())
        say(
            f"{song.name}: values above full scale were clipped ({counts}): "
            "--subtype FLOAT keeps them"
        )
    return {
        "song": str(song),
        "seconds": samples / rate_hz,
        "sample_rate_hz": rate_hz,
        "channels": info.channels,
        "files": {stem: str(path) for stem, path in paths.items()},
        "clipped_values": clipped,
        "elapsed_s": round(time.perf_counter() - started, 3),
    }
