"""`stemforge release`: the stages' outputs as a release with a name and a version."""

import argparse
import re
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.pipelines.options import local_path
from stemforge.pipelines.releases.files import NAME, VERSION


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    command = commands.add_parser(
        "release",
        help="put models, exports, scores and their provenance into one folder",
        description="Writes a folder from what `dvc repro` made in this checkout. Run it where "
        "params.yaml is.",
    )
    command.add_argument("--name", required=True, help="name of the release, such as musdb18-unet")
    command.add_argument("--version", required=True, help="its version, such as 1.0.0")
    command.add_argument(
        "--output",
        type=local_path,
        metavar="DIR",
        help="new folder (default: releases/NAME-VERSION)",
    )
    command.add_argument(
        "--allow-dirty",
        action="store_true",
        help="accept a tree with uncommitted changes; the release lists the changed files",
    )
    command.set_defaults(run=make_release, extra="repro")


def make_release(arguments: argparse.Namespace) -> None:
    """`stemforge release`."""
    from stemforge.pipelines.params import read_params
    from stemforge.pipelines.releases.writing import write_release

    name, version = arguments.name, arguments.version
    if not re.fullmatch(NAME, name):
        raise UserError(f"--name {name}: must hold only letters, digits, '.', '_' and '-'")
    if not re.fullmatch(VERSION, version):
        raise UserError(f"--version {version}: must be like 1.0.0 or 1.0.0-rc.1")
    out = arguments.output or Path("releases") / f"{name}-{version}"
    if out.exists():
        raise UserError(f"{out}: already exists: choose another version, or remove it")
    write_release(read_params(), out, name=name, version=version, allow_dirty=arguments.allow_dirty)
