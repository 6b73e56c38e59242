"""The `stemforge` command: what people call by hand."""

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from stemforge.errors import needs
from stemforge.pipelines.commands import (
    corpus,
    export,
    features,
    import_scores,
    info,
    live,
    models,
    release,
    report,
    score,
    separate,
    spleeter,
    train,
    train_cluster,
    verify,
    web,
)
from stemforge.pipelines.console import run_main

# In the order of the help. Heavy imports wait until a command runs: help answers within a second.
COMMANDS = (
    *(separate, live, web, models, score, report, import_scores, export, spleeter),
    *(corpus, features, train, train_cluster, release, info, verify),
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="stemforge",
        description="Separates music into stems with trained nets, and scores separations.",
        epilog="`dvc repro`, in a checkout, trains nets and makes a leaderboard and a release.",
    )
    version = importlib.metadata.version("stemforge")
    parser.add_argument("--version", action="version", version=f"stemforge {version}")
    parser.set_defaults(takes_flags=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""

    def run() -> None:
        parser = build_parser()
        arguments, flags = parser.parse_known_args(argv)
        if flags and not arguments.takes_flags:
            parser.error(f"unrecognized arguments: {' '.join(flags)}")
        arguments.flags = flags  # for another program, such as Beam
        with needs(arguments.extra, what=f"stemforge {arguments.command}"):
            arguments.run(arguments)

    return run_main(run)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
