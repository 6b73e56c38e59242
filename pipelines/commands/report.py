"""`stemforge report`: scores as a page to look at and listen to."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import STEMS
from stemforge.pipelines.options import local_path, split_mapping, split_names

if TYPE_CHECKING:
    from stemforge.pipelines.running.reporting import Board, Sound

REPEAT = (
    "stemforge score ESTIMATES --corpus ROOT --output SCORES  # each method, with its --name\n"
    "stemforge report SCORES --output DIR"
)


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "report",
        help="a page of scores to look at and listen to",
        description="Writes a folder with index.html, which opens from a disk and from any web "
        "server: leaderboard, scores of all songs, frames, and a player of excerpts.",
    )
    option = parser.add_argument
    option(
        "scores",
        metavar="SCORES",
        help="folder that `stemforge score` wrote, a release, or a checkout after `dvc repro`",
    )
    option("--output", required=True, type=local_path, metavar="DIR", help="new folder")
    option("--title", help="of the page (default: the leaderboard's)")
    option(
        "--single-file",
        action="store_true",
        help="put all into index.html, for a handful of songs",
    )
    sound = parser.add_argument_group("sound").add_argument
    sound(
        "--audio",
        choices=("none", "excerpts"),
        default="none",
        help="whether the page holds excerpts of the songs, which you must be allowed to pass on "
        "(default: %(default)s)",
    )
    sound("--corpus", metavar="ROOT", help="of the scored songs, as for `stemforge score`")
    sound("--licence", metavar="TEXT", help="of the songs; stands beside the player")
    sound(
        "--estimates",
        action="append",
        default=[],
        metavar="METHOD=DIR",
        help="folder of a method's estimates, as for `stemforge score`; several times for several "
        "methods",
    )
    sound(
        "--stems",
        default=",".join(STEMS),
        metavar="A,B,...",
        help="stems of the corpus (default: %(default)s)",
    )
    sound("--mapping", metavar="STEM=A+B,...", help="as for `stemforge score`")
    sound(
        "--seconds",
        type=float,
        default=3.0,
        help="length of an excerpt in s (default: %(default)g)",
    )
    sound("--bitrate", default="48k", help="of a sound, in Opus, in kbit/s (default: %(default)s)")
    parser.set_defaults(run=make_report, extra="score")


def make_report(arguments: argparse.Namespace) -> None:
    """`stemforge report`."""
    from stemforge.pipelines.console import say
    from stemforge.pipelines.running.reporting import read_board, write_report
    from stemforge.pipelines.running.work import new_folder

    _check(arguments)
    root = storage.absolute(arguments.scores)
    parts = storage.join(root, "leaderboard"), storage.join(root, "scores")
    board = read_board(*(parts if storage.is_folder(parts[0]) else (root, root)))
    sound = _find_sound(arguments, board) if arguments.audio == "excerpts" else None
    with new_folder(arguments.output) as fresh:
        write_report(
            fresh,
            board,
            sound,
            title=arguments.title,
            models=_models(root),
            repeat=REPEAT,
            single_file=arguments.single_file,
            label="report",
        )
    say(f"report: open {arguments.output}/index.html")


def _models(root: str) -> list[Path]:
    """The model directories of a release or a checkout."""
    from stemforge.train.model_files import find_model_folders

    folder = Path(storage.join(root, "models"))
    return find_model_folders(folder) if storage.is_local(root) and folder.is_dir() else []


def _check(arguments: argparse.Namespace) -> None:
    needed = {"--corpus": arguments.corpus, "--licence": arguments.licence}
    if arguments.audio == "excerpts":
        for option, value in needed.items():
            if not value:
                raise UserError(f"--audio excerpts: needs {option}")
    else:
        for option, value in (needed | {"--estimates": arguments.estimates}).items():
            if value:
                raise UserError(f"{option}: has no effect without --audio excerpts: add it")
    if not 1.0 <= arguments.seconds <= 30.0:
        raise UserError(f"--seconds {arguments.seconds:g}: must be between 1 and 30")


def _find_sound(arguments: argparse.Namespace, board: "Board") -> "Sound":
    """The corpus' tracks and each method's files."""
    import functools

    from stemforge.eval.scoring.estimates import find_estimates
    from stemforge.features.corpus.sources import MIXTURE, parts_of
    from stemforge.features.corpus.track_audio import open_corpus_track, scored_subtype
    from stemforge.pipelines.running.corpora import find_test_tracks
    from stemforge.pipelines.running.reporting import Sound
    from stemforge.pipelines.scoring.plan import TrackSources

    stems = split_names(arguments.stems, option="--stems")
    mapping = split_mapping(arguments.mapping, option="--mapping")
    found, _ = find_test_tracks(arguments.corpus, stems, mapping)
    parts = parts_of(stems, mapping)
    tracks = {
        track.name: TrackSources(
            track.name, functools.partial(open_corpus_track, track, scored_subtype(track))
        )
        for track in found
    }
    complete = all(track.is_complete for track in found)
    estimates = {
        method: find_estimates(
            storage.absolute(folder),
            tracks=[*tracks],
            stems=[source for source in parts if source != MIXTURE],
            complete=complete,
        )
        for method, folder in _methods(arguments.estimates, set(board.tracks["method"]))
    }
    return Sound(tracks, estimates, arguments.licence, arguments.seconds, arguments.bitrate)


def _methods(given: Sequence[str], known: set[str]) -> list[tuple[str, str]]:
    """Method and folder of each --estimates."""
    found: list[tuple[str, str]] = []
    for text in given:
        method, equals, folder = text.partition("=")
        if not equals or not folder:
            raise UserError(f"--estimates {text}: must be METHOD=DIR")
        if method not in known:
            names = ", ".join(sorted(known))
            raise UserError(
                f"--estimates {text}: no scores of {method}; there are those of {names}"
            )
        if method in dict(found):
            raise UserError(f"--estimates {text}: {method} is given twice")
        found.append((method, folder))
    return found
