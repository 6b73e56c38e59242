"""`stemforge train-cluster`: several workers of one model on this machine."""

import argparse
import sys
from typing import Any

from stemforge.errors import UserError
from stemforge.pipelines.paths import RUNS
from stemforge.pipelines.running.supervisor import Supervisor
from stemforge.pipelines.running.work import WORK


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    command = commands.add_parser(
        "train-cluster",
        help="train one model with several workers on this machine",
        description="Starts N processes of `stemforge train` that share each batch, and "
        "restarts all of them from the last checkpoint when one dies or hangs. Run "
        "it where params.yaml is.",
    )
    command.add_argument(
        "--workers", required=True, type=int, metavar="N", help="processes, one of them the chief"
    )
    command.add_argument(
        "--restarts",
        type=int,
        default=5,
        metavar="N",
        help="give up after this many restarts in a row without progress (default: %(default)s)",
    )
    command.add_argument(
        "--heartbeat-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="a worker without a heartbeat for this long counts as hung (default: %(default)s)",
    )
    command.add_argument(
        "train",
        nargs="+",
        metavar="-- ARGUMENT",
        help="arguments of `stemforge train`, such as -- --stem vocals",
    )
    command.set_defaults(run=train_cluster, extra="train")


def train_cluster(arguments: argparse.Namespace) -> None:
    """`stemforge train-cluster`."""
    for name, least in (("workers", 1), ("restarts", 0), ("heartbeat_timeout", 2)):
        if getattr(arguments, name) < least:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {getattr(arguments, name)}: must be {least} or more")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--stem")
    stem = parser.parse_known_args(arguments.train)[0].stem
    if stem is None:
        raise UserError("train-cluster: no --stem: give it after --, as in -- --stem vocals")
    supervisor = Supervisor(
        [sys.executable, "-m", "stemforge.pipelines.commands.main", "train", *arguments.train,
         "--strategy", "multi_worker"],
        workers=arguments.workers,
        logs=RUNS / stem / "workers",
        beats=WORK / f"cluster-{stem}",
        heartbeat_timeout_s=arguments.heartbeat_timeout,
        restarts=arguments.restarts,
    )  # fmt: skip
    with supervisor.signals():
        supervisor.run()
