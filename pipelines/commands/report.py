"""`stemforge report`: scores as a page to look at and listen to."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge import storage
from stemforge.errors import IncompleteError, UserError
from stemforge.features.corpus.sources import STEMS
from stemforge.pipelines.options import local_path, split_mapping, split_names

if TYPE_CHECKING:
    from stemforge.pipelines.running.reporting import Board, Sound

# Options that have no effect without --audio excerpts.
OF_SOUND = ("corpus", "licence", "estimates", "stems", "mapping", "seconds", "bitrate")


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "report",
        help="a page of scores to look at and listen to",
        description="Writes a folder with index.html, which opens from a disk and from any web "
        "server: leaderboard, scores of all songs, frames, and a player of excerpts. Exit code 1 "
        "if a song or an estimate could not be heard; the others can.",
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
    option(
        "--audio",
        choices=("none", "excerpts"),
        default="none",
        help="whether the page holds excerpts of the songs, which you must be allowed to pass on "
        "(default: %(default)s)",
    )
    sound = parser.add_argument_group("with --audio excerpts").add_argument
    sound("--corpus", metavar="ROOT", help="of the scored songs, as for `stemforge score`")
    sound("--licence", metavar="TEXT", help="of the songs; stands beside the player")
    sound(
        "--estimates",
        action="append",
        metavar="METHOD=DIR",
        help="folder of a method's estimates, as for `stemforge score`; several times for several "
        "methods",
    )
    sound("--stems", metavar="A,B,...", help=f"stems of the corpus (default: {','.join(STEMS)})")
    sound("--mapping", metavar="STEM=A+B,...", help="as for `stemforge score`")
    sound("--seconds", type=float, metavar="S", help="length of an excerpt (default: 3)")
    sound("--bitrate", metavar="48k", help="of a sound, in Opus (default: 48k)")
    parser.set_defaults(run=make_report, extra="score")


def make_report(arguments: argparse.Namespace) -> None:
    """`stemforge report`."""
    from stemforge.eval.leaderboard.about import ABOUT
    from stemforge.pipelines.console import say
    from stemforge.pipelines.running.reporting import read_board, write_report
    from stemforge.pipelines.running.work import new_folder

    _check(arguments)
    root = storage.absolute(arguments.scores)
    boards, scores = storage.join(root, "leaderboard"), storage.join(root, "scores")
    # A release or a checkout; else a folder of scores, whose methods may have any name.
    is_apart = storage.size(storage.join(boards, ABOUT)) is not None
    board = read_board(boards, scores) if is_apart else read_board(root, root)
    sound = _find_sound(arguments, board) if arguments.audio == "excerpts" else None
    with new_folder(arguments.output) as fresh:
        missing = write_report(
            fresh,
            board,
            sound,
            title=arguments.title,
            models=_models(root) if is_apart else (),
            repeat=_repeat(arguments),
            single_file=arguments.single_file,
            label="report",
        )
    say(f"report: open {arguments.output}/index.html")
    if missing:
        what = "1 remark" if missing == 1 else f"{missing} remarks"
        raise IncompleteError(f"{what} on what can be heard (see above); the rest is in the report")


def _models(root: str) -> list[Path]:
    """The model directories of a release or a checkout."""
    from stemforge.train.model_files import find_model_folders

    folder = Path(storage.join(root, "models"))
    return find_model_folders(folder) if storage.is_local(root) and folder.is_dir() else []


def _repeat(arguments: argparse.Namespace) -> str:
    """The command line, with names of folders instead of their places."""
    parts = ["stemforge report", storage.name(storage.absolute(arguments.scores)), "--output DIR"]
    if arguments.audio == "excerpts":
        parts += ["--audio excerpts", "--corpus", storage.name(arguments.corpus)]
        parts += ["--licence", shlex.quote(arguments.licence)]
        for text in arguments.estimates or ():
            method, _, folder = text.partition("=")
            parts += ["--estimates", shlex.quote(f"{method}={storage.name(folder)}")]
        for name in ("stems", "mapping", "seconds", "bitrate"):
            if value := getattr(arguments, name):
                parts += [f"--{name}", shlex.quote(f"{value}")]
    return " ".join(parts)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.audio == "excerpts":
        for name in ("corpus", "licence"):
            if not getattr(arguments, name):
                raise UserError(f"--audio excerpts: needs --{name}")
    else:
        for name in OF_SOUND:
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name}: has no effect without --audio excerpts: add it")
    if arguments.seconds is not None and not 1.0 <= arguments.seconds <= 30.0:
        raise UserError(f"--seconds {arguments.seconds:g}: must be between 1 and 30")


def _find_sound(arguments: argparse.Namespace, board: "Board") -> "Sound":
    """The corpus' tracks and each method's files."""
    import functools

    from stemforge.eval.scoring.estimates import find_estimates
    from stemforge.features.corpus.sources import MIXTURE, parts_of
    from stemforge.features.corpus.track_audio import open_corpus_track, scored_subtype
    from stemforge.pipelines.running.corpora import find_test_tracks
    from stemforge.pipelines.running.report_sounds import Sources
    from stemforge.pipelines.running.reporting import BITRATE, SECONDS, Sound
    from stemforge.pipelines.scoring.plan import TrackSources

    stems = split_names(arguments.stems or ",".join(STEMS), option="--stems")
    mapping = split_mapping(arguments.mapping, option="--mapping")
    folders = _methods(arguments.estimates or (), {*map(str, board.tracks["method"])})
    found, _ = find_test_tracks(arguments.corpus, stems, mapping)
    names = [track.name for track in found]
    sources = [source for source in parts_of(stems, mapping) if source != MIXTURE]
    complete = all(track.is_complete for track in found)
    estimates = {
        method: find_estimates(
            storage.absolute(folder), tracks=names, stems=sources, complete=complete
        )
        for method, folder in folders.items()
    }
    songs = {
        track.name: Sources(
            TrackSources(
                track.name, functools.partial(open_corpus_track, track, scored_subtype(track))
            ),
            {method: there.files[track.name] for method, there in estimates.items()},
            tuple(
                f"{method}: {note.target}: {note.detail}"
                for method, there in estimates.items()
                for note in there.remarks[track.name]
            ),
        )
        for track in found
    }
    seconds, bitrate = arguments.seconds or SECONDS, arguments.bitrate or BITRATE
    return Sound(songs, arguments.licence, seconds, bitrate)


def _methods(given: Sequence[str], known: set[str]) -> Mapping[str, str]:
    """Folder by method, of all --estimates."""
    found: dict[str, str] = {}
    for text in given:
        method, equals, folder = text.partition("=")
        if not equals or not folder:
            raise UserError(f"--estimates {text}: must be METHOD=DIR")
        if method not in known:
            there = ", ".join(sorted(known))
            raise UserError(f"--estimates {text}: no scores of {method}; there are: {there}")
        if method in found:
            raise UserError(f"--estimates {text}: {method} is given twice")
        found[method] = folder
    return found
