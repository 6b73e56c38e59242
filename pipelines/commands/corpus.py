"""`stemforge corpus`: fetches a corpus that has a name."""

import argparse
from typing import Any

from stemforge.pipelines.console import say
from stemforge.pipelines.running.musdb18_7 import (
    URL,
    fetch,
    say_missing,
)
from stemforge.pipelines.running.named_corpora import FOLDER, NAME, find


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "corpus",
        help="fetch a corpus by its name: musdb18-7",
        description=f"Downloads MUSDB18-7, the excerpts of MUSDB18's songs, into {FOLDER}, where "
        "the musdb package keeps them too, unless they are there. Prints that folder. A download "
        "that was stopped is resumed. For academic use only.",
    )
    parser.add_argument("name", metavar="NAME", choices=(NAME,), help=f"of the corpus: {NAME}")
    parser.add_argument(
        "--url",
        default=URL,
        metavar="URL",
        help="address of the archive, such as a mirror's (default: %(default)s)",
    )
    parser.set_defaults(run=fetch_corpus, extra="features")


def fetch_corpus(arguments: argparse.Namespace) -> None:
    """`stemforge corpus`."""
    from stemforge.features.audio import ffmpeg
    from stemforge.pipelines.running.corpora import describe_musdb

    ffmpeg.find_program("ffprobe")  # before the download
    if arguments.url != URL and (there := find()) is not None:
        say(f"{there}: has songs: nothing is fetched from {arguments.url}")
    folder = fetch(arguments.url)
    say(describe_musdb(folder))
    say_missing(folder)
    print(folder)
