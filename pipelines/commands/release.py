"""`stemforge release`: the stages' outputs as a release with a name and a version."""

import argparse
import re
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.pipelines.options import local_path
from stemforge.pipelines.releases.files import NAME, SUMS, VERSION


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    command = commands.add_parser(
        "release",
        help="put models, exports, scores and their provenance into one folder",
        description="Writes a folder from what `dvc repro` made in this checkout. Run it where "
        "params.yaml is.",
    )
    command.add_argument("--name", help="of the release (default: release.name in params.yaml)")
    command.add_argument("--version", help="of the release (default: release.version)")
    command.add_argument(
        "--output",
        type=local_path,
        metavar="DIR",
        help="new folder (default: releases/NAME-VERSION)",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace an earlier release in that folder"
    )
    command.add_argument(
        "--allow-dirty",
        action="store_true",
        help="accept uncommitted changes, and models that other code or packages trained; the "
        "release lists them",
    )
    command.set_defaults(run=make_release, extra="repro")


def make_release(arguments: argparse.Namespace) -> None:
    """`stemforge release`."""
    from stemforge.pipelines.params import read_params
    from stemforge.pipelines.releases.writing import write_release

    params = read_params()
    name = arguments.name or params.release.name
    version = arguments.version or params.release.version
    if not re.fullmatch(NAME, name):
        raise UserError(f"--name {name}: must hold only letters, digits, '.', '_' and '-'")
    if not re.fullmatch(VERSION, version):
        raise UserError(f"--version {version}: must be like 1.0.0 or 1.0.0-rc.1")
    out = arguments.output or Path("releases") / f"{name}-{version}"
    if out.exists() and not (arguments.overwrite and (out / SUMS).is_file()):
        remedy = "add --overwrite" if (out / SUMS).is_file() else "choose another --output"
        raise UserError(f"{out}: already exists: {remedy}")
    write_release(params, out, name=name, version=version, allow_dirty=arguments.allow_dirty)
