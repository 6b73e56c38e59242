"""`stemforge export` and `stemforge convert-spleeter`: models to files that run elsewhere."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import tensorflow
from stemforge.features.errors import UserError
from stemforge.pipelines.console import say
from stemforge.pipelines.corpus_option import find_test_tracks

if TYPE_CHECKING:
    from stemforge.eval.parity import Clip

# Heavy imports wait until a command runs: help answers within a second.

OFFICIAL = ("2stems", "4stems", "5stems")
RELEASE = "https://github.com/deezer/spleeter/releases/download/v1.4.0"
# Upper bounds of what an export may differ by; params.yaml has the stage's own.
MAX_DIFFERENCE = {
    "saved_model": 1e-5,
    "tflite_float32": 1e-4,
    "tflite_float16": 1e-2,
    "tflite_int8_weights": 0.1,
    "tflite_int8_mixed": 0.3,
    "segment": 1e-2,
}
MAX_SDR_LOSS_DB = 0.1
MAX_SDR_LOSS_INT8_MIXED_DB = 0.3


def add_to(commands: Any) -> None:
    """Adds the commands' parsers."""
    export = commands.add_parser(
        "export",
        help="SavedModel and TFLite files of models",
        description="Writes a SavedModel and TFLite files of the models, golden vectors for ports "
        "to other languages, and parity.json: how far each is from Keras on real music.",
    )
    export.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL_DIR",
        help="model directories of all stems, or folders of them (such as models/)",
    )
    _add_common(export)
    export.set_defaults(run=export_models, extra="export")
    convert = commands.add_parser(
        "convert-spleeter",
        help="one of Deezer's checkpoints to models and exports",
        description="Writes OUTPUT/models, as import-spleeter does, and OUTPUT/exports, as export "
        "does.",
    )
    convert.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        metavar="CHECKPOINT_DIR",
        help="folder with a file `checkpoint`; or --download",
    )
    convert.add_argument(
        "--download",
        choices=OFFICIAL,
        help="fetch this model from Deezer's release, and check it by the release's checksums",
    )
    convert.add_argument(
        "--base-url",
        default=RELEASE,
        metavar="URL",
        help="where NAME.tar.gz and checksum.json lie (default: %(default)s)",
    )
    _add_common(convert)
    convert.set_defaults(run=convert_spleeter, extra="export")


def _add_common(parser: Any) -> None:
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="a new or empty folder"
    )
    parser.add_argument(
        "--frames",
        default="512,128",
        metavar="A,B,...",
        help="lengths of the TFLite files from waveform to waveforms; multiples of 2 ** depth of "
        "the nets (default: %(default)s)",
    )
    parser.add_argument(
        "--corpus",
        metavar="ROOT",
        help="measure on the test tracks of this MUSDB folder (default: on the 6 s of real music "
        "that stempeg comes with)",
    )

    parser.add_argument(
        "--timings",
        action="store_true",
        help="also measure start-up, latency and memory of each file on this machine: timings.json",
    )


def export_models(arguments: argparse.Namespace) -> None:
    """`stemforge export`."""
    from stemforge.features.models import find_model_folders, read_card

    folders = list(
        dict.fromkeys(f for place in arguments.models for f in find_model_folders(place))
    )
    for folder in folders:
        read_card(folder)
    with _new_folder(arguments.output) as out:
        _export(folders, out, arguments)
    say(f"{arguments.output}: SavedModel, TFLite, vectors/ and parity.json")


def convert_spleeter(arguments: argparse.Namespace) -> None:
    """`stemforge convert-spleeter`."""
    if (arguments.checkpoint is None) == (arguments.download is None):
        raise UserError("either CHECKPOINT_DIR or --download: one of them, not both")
    with ExitStack() as stack:
        checkpoint: Path = arguments.checkpoint
        if arguments.download:
            from stemforge.pipelines.download import fetch_checkpoint

            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="stemforge-"))
            checkpoint = fetch_checkpoint(
                arguments.download, Path(scratch), base_url=arguments.base_url
            )
        tensorflow.start()
        from stemforge.pipelines.import_spleeter import import_checkpoint

        out = stack.enter_context(_new_folder(arguments.output))
        models = import_checkpoint(
            checkpoint,
            out / "models",
            configuration=arguments.download,
            stems=None,
            activation=None,
        )
        (out / "exports").mkdir()
        _export([out / "models" / model.name for model in models], out / "exports", arguments)
    say(f"{arguments.output}: models/ and exports/")


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder that gets its name when all that goes into it is there."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output}: it is there already, and not an empty folder")
    fresh = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if output.exists():
        output.rmdir()
    fresh.rename(output)


def _export(folders: Sequence[Path], out: Path, arguments: argparse.Namespace) -> None:
    tensorflow.start()
    from stemforge.features.models import read_card
    from stemforge.pipelines.exporting import Bounds, export_all
    from stemforge.pipelines.timings import write_timings

    try:
        frames = [int(text) for text in arguments.frames.split(",")]
    except ValueError:
        raise UserError(f"--frames {arguments.frames}: numbers, such as 512,128") from None
    rate_hz = read_card(folders[0])["sample_rate_hz"]
    export_all(
        folders,
        out,
        clips=real_clips(arguments.corpus, sample_rate_hz=rate_hz),
        frames=frames,
        bounds=Bounds(MAX_DIFFERENCE, MAX_SDR_LOSS_DB, MAX_SDR_LOSS_INT8_MIXED_DB),
    )
    if arguments.timings:
        write_timings(out, out / "timings.json")


def real_clips(corpus: str | None, *, sample_rate_hz: int) -> list["Clip"]:
    """The middle of each test track of a corpus, or stempeg's example, with their stems.

    Raises:
        UserError: no test track, or one at another rate.
    """
    from stemforge.features.corpora import MUSDB_STREAMS, CorpusTrack
    from stemforge.features.ffmpeg import put_ffmpeg_on_path
    from stemforge.features.tracks import MIXTURE

    stems = [name for name in MUSDB_STREAMS if name != MIXTURE]
    if corpus is None:
        put_ffmpeg_on_path()  # stempeg refuses to load without
        import stempeg

        place = str(stempeg.example_stem_path())
        tracks = [
            CorpusTrack("example", "test", dict.fromkeys(MUSDB_STREAMS, place), MUSDB_STREAMS, True)
        ]
    else:
        tracks = find_test_tracks(corpus, stems)
    return [_read_clip(track, sample_rate_hz) for track in tracks]


def _read_clip(track: Any, sample_rate_hz: int) -> "Clip":
    from stemforge.eval.parity import Clip
    from stemforge.eval.scores import ACCOMPANIMENT, accompaniment
    from stemforge.features import audio
    from stemforge.features.track_audio import open_corpus_track
    from stemforge.features.tracks import MIXTURE
    from stemforge.pipelines.exporting import read_clip

    with open_corpus_track(track, "PCM_16") as files:
        info = audio.file_info(files[MIXTURE])
        if info.sample_rate_hz != sample_rate_hz:
            raise UserError(f"{track.name}: at {info.sample_rate_hz} Hz, not {sample_rate_hz}")
        clip = read_clip(files)
    return Clip(clip.mixture, {**clip.stems, ACCOMPANIMENT: accompaniment(clip.stems)})
