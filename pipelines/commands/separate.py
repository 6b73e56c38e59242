"""`stemforge separate`: songs in, one file per stem out."""

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stemforge.errors import UserError
from stemforge.eval.config import Mask, MaskExtension, Precision, Runtime
from stemforge.features.audio.formats import CODECS, SUBTYPES
from stemforge.pipelines.console import print_json, progress, say, system_error
from stemforge.pipelines.options import add_model_options, local_path, split_names
from stemforge.pipelines.pretrained.catalogue import DEFAULT
from stemforge.pipelines.running.songs import STDIN, copy_stdin, find_songs, split_ending

if TYPE_CHECKING:
    from stemforge.eval.separation.separator import Separator
    from stemforge.features.audio.ffmpeg import AudioInfo
    from stemforge.features.signal.stft import Waveform

# Heavy imports wait until the command runs: help answers within a second.

FILENAME_FORMAT = "{filename}/{instrument}.{codec}"
MWF_WINDOW_FRAMES = 300
# A song that stands for any in checks of --filename-format.
EXAMPLE = {"filename": "song", "extension": "wav", "foldername": "folder"}


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
    add_model_options(option, default=DEFAULT)
    option(
        "--output",
        default=Path("stems"),
        type=local_path,
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
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
        choices=[*get_args(Precision), "auto"],
        default="float32",
        help="number format that the nets compute in: bfloat16 is TensorFlow's, and used only on a "
        "CPU with instructions for it; auto takes what is usually fastest, and costs Deezer's "
        "2stems no more than 0.1 dB: *-int8-mixed.tflite files where --model holds them, else "
        "bfloat16 on such a CPU, else float32 (default: %(default)s)",
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
    option("--downmix", action="store_true", help="mix songs of more than two channels down to two")
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
        help="names of the results in OUTPUT; {filename}, {extension} and {foldername} are the "
        "song's (default: %(default)s)",
    )
    option(
        "--overwrite",
        action="store_true",
        help="replace existing results (default: skip songs whose results are all there; an error "
        "where SONG is one file)",
    )
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
    _fill_in(arguments, instrument="vocals", **EXAMPLE)
    with ExitStack() as stack:
        stdin = copy_stdin(stack) if STDIN in arguments.songs else None
        songs, failed = find_songs(arguments.songs, stdin=stdin, output=arguments.output)
        summary: dict[str, list[Any]] = {"songs": [], "skipped": [], "failed": failed}
        if len(songs) + len(failed) > 1:  # the error of a single song is the command's
            for failure in failed:
                say(f"stemforge: {failure['error']}")
        if songs:
            separator = _load(arguments)
            _check_format(separator.stems, arguments)
            _separate_all(separator, songs, stdin, summary, arguments)
    if arguments.json:
        print_json(summary)
    if failed:
        count = sum(map(len, summary.values()))
        text = failed[0]["error"]
        if count > 1:
            text = f"{len(failed)} of {count} songs were not separated, the first: {text}"
        raise UserError(text)


def _without_results(
    songs: Sequence[Path], stems: Sequence[str], arguments: argparse.Namespace
) -> list[Path]:
    """Leaves out what an earlier run made of another song, where --output holds the songs too."""
    results: dict[Path, Path] = {}
    for song in songs:
        with suppress(UserError, OSError):  # reported when it is the song's turn
            paths = _targets(song, stems, arguments).values()
            if all(path.is_file() for path in paths):
                results |= {path.resolve(): song for path in paths}
    kept = [song for song in songs if results.get(song.resolve(), song) == song]
    if left := len(songs) - len(kept):
        say(f"{left} of {len(songs)} files are results of other songs: left out")
    return kept


def _separate_all(
    separator: "Separator",
    songs: Sequence[Path],
    stdin: Path | None,
    summary: dict[str, list[Any]],
    arguments: argparse.Namespace,
) -> None:
    """Separates the songs whose results are not there.

    Args:
        separator: of the models.
        songs: as `find_songs` returns them.
        stdin: which of them is the copy of standard input.
        summary: what --json prints. Each song is added to its "songs", "skipped" or "failed".
        arguments: of the command.
    """
    alone = len(songs) + len(summary["failed"]) == 1
    # Who names one file wants it separated; results of that name may be another song's.
    one_file = alone and not any(Path(name).is_dir() for name in arguments.songs)
    songs = _without_results(songs, separator.stems, arguments)
    taken = {song.resolve(): f"{song} itself" for song in songs}
    for song in songs:
        try:
            paths = _targets(song, separator.stems, arguments)
            places = _places(paths, song, taken)
            # Every standard input has the same name: what is there may be of another song.
            skip = not one_file and song != stdin
            if _are_there(paths, skip=skip, overwrite=arguments.overwrite):
                files = {stem: str(path) for stem, path in paths.items()}
                summary["skipped"].append({"song": str(song), "files": files})
                folder = Path(os.path.commonpath([path.parent for path in paths.values()]))
                say(
                    f"{song}: its results are in {folder} already: skipped; --overwrite separates "
                    "it again"
                )
            else:
                summary["songs"].append(_separate_song(separator, song, paths, arguments))
            taken |= places  # not of a song that fails: one of the same name may be fine
        except (UserError, OSError) as error:
            text = system_error(error) if isinstance(error, OSError) else str(error)
            text = text if text.startswith(f"{song}: ") else f"{song}: {text}"
            summary["failed"].append({"song": str(song), "error": text})
            if not alone:
                say(f"stemforge: {text}")


def _are_there(paths: dict[str, Path], *, skip: bool, overwrite: bool) -> bool:
    """Whether all results of a song are there, so that it is skipped.

    Raises:
        UserError: a folder is in the place of a result; or some are there that may not be
            replaced, or all where the song may not be skipped.
    """
    for path in paths.values():
        if path.is_dir():
            raise UserError(
                f"{path}: cannot be written, because a folder is in its place: move the folder"
            )
    there = [path for path in paths.values() if path.exists()]
    if overwrite or not there:
        return False
    if skip and all(path.is_file() for path in paths.values()):
        return True
    raise UserError(f"{there[0]}: already exists: add --overwrite to replace it")


def _load(arguments: argparse.Namespace) -> "Separator":
    mwf_window = arguments.mwf_window
    if mwf_window is not None and not arguments.mwf:
        raise UserError(f"--mwf-window {mwf_window}: needs --mwf: add --mwf, or remove it")
    if mwf_window is None and arguments.mwf:
        mwf_window = MWF_WINDOW_FRAMES
    stems = arguments.stems
    if stems is not None:
        stems = split_names(stems, option="--stems")
    from stemforge.eval.separation.separator import Separator
    from stemforge.pipelines.pretrained.places import resolve
    from stemforge.pipelines.pretrained.precision import choose

    place = resolve(arguments.model, runtime=arguments.runtime, offline=arguments.offline)
    models, precision = choose(
        place,
        runtime=arguments.runtime,
        precision=arguments.precision,
        forced=arguments.force_precision,
        needs_directories=arguments.max_frequency_hz is not None,
    )
    return Separator.load(
        models,
        runtime=arguments.runtime,
        precision=precision,
        max_frequency_hz=arguments.max_frequency_hz,
        stems=stems,
        mask=arguments.mask,
        exponent=arguments.exponent,
        mask_extension=arguments.mask_extension,
        mwf_window_frames=mwf_window,
        overlap_frames=arguments.overlap,
        residual=arguments.residual,
        instrumental=arguments.instrumental,
    )


def _fill_in(arguments: argparse.Namespace, **values: str) -> str:
    """A result's name in OUTPUT, by --filename-format.

    Raises:
        UserError: the format is wrong, or the result would be no file or not in OUTPUT.
    """
    text: str = arguments.filename_format
    try:
        name = text.format(codec=arguments.codec, **values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"--filename-format {text}: {error} is not supported; supported: "
            "{filename}, {extension}, {foldername}, {instrument} and {codec}"
        ) from None
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(
            f"--filename-format {text}: {name} would not be in --output {arguments.output}: "
            "choose another format"
        )
    if os.path.basename(name) in ("", "."):
        raise UserError(
            f"--filename-format {text!r}: {name!r} is no name of a file: end the format with one, "
            "such as {instrument}.{codec}"
        )
    return name


def _check_format(stems: Sequence[str], arguments: argparse.Namespace) -> None:
    """Refuses a --filename-format that fits no song, before the first is separated."""
    names: dict[Path, str] = {}
    for stem in stems:
        path = arguments.output / _fill_in(arguments, instrument=stem, **EXAMPLE)
        other = names.setdefault(path, stem)
        if other != stem:
            raise UserError(
                f"--filename-format {arguments.filename_format}: {other} and {stem} of a song "
                "would both be written there: use {instrument} in it"
            )


def _targets(song: Path, stems: Sequence[str], arguments: argparse.Namespace) -> dict[str, Path]:
    name, extension = split_ending(song)
    values = {"filename": name, "extension": extension}
    values["foldername"] = song.resolve().parent.name
    return {
        stem: arguments.output / _fill_in(arguments, instrument=stem, **values) for stem in stems
    }


def _places(paths: dict[str, Path], song: Path, taken: dict[Path, str]) -> dict[Path, str]:
    """The absolute paths of a song's results, and what each is.

    Raises:
        UserError: one is taken by a song or by another song's results.
    """
    places = {path.resolve(): f"{stem} of {song}" for stem, path in paths.items()}
    for place, what in places.items():
        if place in taken:
            raise UserError(
                f"{place}: {what} and {taken[place]} would both be written there: choose another "
                "--filename-format, such as '{filename}.{extension}/{instrument}.{codec}'"
            )
    return places


class _Part:
    """The part of a song that --offset and --duration choose, as a stream that is counted.

    Args:
        info: what the song's file states.
        offset_s: seconds before the part.
        duration_s: its seconds; None: to the song's end.

    Attributes:
        read_s: seconds of the song that have been decoded, those before the part included.
        taken_s: seconds of the part that have been separated.
    """

    def __init__(self, info: "AudioInfo", *, offset_s: float, duration_s: float | None) -> None:
        self._info = info
        self._offset_s = offset_s
        rate_hz = info.sample_rate_hz
        self._start = round(offset_s * rate_hz)
        self._samples = None if duration_s is None else max(1, round(duration_s * rate_hz))
        self._read_samples = self._taken_samples = 0

    @property
    def read_s(self) -> float:
        return self._read_samples / self._info.sample_rate_hz

    @property
    def taken_s(self) -> float:
        return self._taken_samples / self._info.sample_rate_hz

    def expected_s(self) -> int | None:
        """Its length by what the file states, for a progress bar; None where it states none."""
        stated = self._info.samples
        lengths = [] if stated is None else [max(0, stated - self._start)]
        lengths += [] if self._samples is None else [self._samples]
        return round(min(lengths) / self._info.sample_rate_hz) if lengths else None

    def stream(self, blocks: Iterator["Waveform"], bar: Any) -> Iterator["Waveform"]:
        """The part of a song's blocks, [samples, channels] each; moves the bar on by seconds.

        Raises:
            UserError: the song ends before the part, whatever length its file states.
        """
        from stemforge.features.audio.files import cut

        for block in cut(self._counted(blocks), start=self._start, samples=self._samples):
            yield block
            self._taken_samples += len(block)  # now that the next one is asked for
            bar.update(round(self.taken_s) - bar.n)
        if self._read_samples and not self._taken_samples:
            raise UserError(f"--offset {self._offset_s}: the song has only {self.read_s:.2f} s")

    def _counted(self, blocks: Iterator["Waveform"]) -> Iterator["Waveform"]:
        for block in blocks:
            self._read_samples += len(block)
            yield block


def _separate_song(
    separator: "Separator", song: Path, paths: dict[str, Path], arguments: argparse.Namespace
) -> dict[str, Any]:
    from stemforge.features.audio.files import stream_song
    from stemforge.pipelines.running.estimates import write_estimates

    started = time.perf_counter()
    damage: list[str] = []
    info, blocks = stream_song(song, damaged=damage.append, downmix=arguments.downmix)
    if info.channels > 2:
        raise UserError(
            f"{info.channels} channels: not supported: add --downmix, which mixes them to two"
        )
    rate_hz = info.sample_rate_hz
    part = _Part(info, offset_s=arguments.offset, duration_s=arguments.duration)
    with progress(part.expected_s(), label=song.name[:30], unit="audio-s") as bar:
        clipped = write_estimates(
            paths,
            separator.separate_stream(part.stream(blocks, bar), sample_rate_hz=rate_hz),
            codec=arguments.codec,
            channels=info.channels,
            sample_rate_hz=rate_hz,
            subtype=arguments.subtype,
            bitrate=arguments.bitrate,
        )
    if not arguments.json:
        say(", ".join(map(str, paths.values())))
    if damage:
        say(f"{song}: {damage[0]}: the {part.taken_s:.2f} s that could be decoded were separated")
    loud = {stem: count for stem, count in clipped.items() if count}
    if loud:
        counts = ", ".join(f"{count} of {stem}" for stem, count in loud.items())
        say(f"{song}: values above full scale were clipped ({counts}): --subtype FLOAT keeps them")
    return {
        "song": str(song),
        "seconds": part.taken_s,
        "sample_rate_hz": rate_hz,
        "channels": info.channels,
        "files": {stem: str(path) for stem, path in paths.items()},
        "damage": "".join(damage),
        "clipped_values": clipped,
        "elapsed_s": round(time.perf_counter() - started, 3),
    }
