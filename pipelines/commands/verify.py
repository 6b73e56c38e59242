"""`stemforge verify`: checks a release or a features folder."""

import argparse
from pathlib import Path
from typing import Any

from stemforge import tensorflow
from stemforge.errors import IncompleteError, UserError, needs
from stemforge.pipelines.console import progress
from stemforge.pipelines.releases.files import SUMS


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    verify = commands.add_parser(
        "verify",
        help="check a release or a features folder",
        description="For a release: checks every file, runs its models and exports against its "
        "golden vectors, and computes the summary of its scores again. For a features folder: "
        "checks every file, record and index. It prints each problem; the exit code is then 1 "
        "for a release and 2 for a features folder.",
    )
    verify.add_argument(
        "folder", metavar="FOLDER", help="release, or features folder, local or a URL (gs://...)"
    )
    verify.add_argument(
        "--compare", metavar="OTHER", help="also list what differs from this other folder"
    )
    verify.set_defaults(run=verify_folder, extra="repro")


def verify_folder(arguments: argparse.Namespace) -> None:
    """`stemforge verify`."""
    if (Path(arguments.folder) / SUMS).is_file():
        verify_release(Path(arguments.folder), arguments.compare)
    else:
        verify_features(arguments.folder, arguments.compare)


def verify_release(folder: Path, other: str | None) -> None:
    """`stemforge verify RELEASE`."""
    tensorflow.start()
    from stemforge.pipelines.releases.verification import compare, find_problems, find_remarks

    problems = list(find_problems(folder))
    for problem in problems:
        print(problem)
    if problems:
        raise IncompleteError(f"{folder}: {len(problems)} problems")
    for remark in find_remarks(folder):
        print(remark)
    print(f"{folder}: complete, and its models, exports and scores check out")
    if other is not None:
        lines, close = compare(folder, Path(other))
        for line in lines:
            print(line)
        if not close:
            raise IncompleteError(f"{folder}: not close to {other}")
        print(f"{folder}: {'close to' if lines else 'byte for byte the same as'} {other}")


def verify_features(folder: str, other: str | None) -> None:
    """`stemforge verify FEATURES`."""
    with needs("features", what="stemforge verify FEATURES"):
        from stemforge.features.shards.reading import FeatureSet
        from stemforge.features.shards.verification import differences, find_damage

    info = FeatureSet.open(folder).info
    size = sum(f["bytes"] for split in info["splits"].values() for f in split["files"].values())
    problems: list[str] = []
    with progress(round(size / 1e6), label="verify", unit="MB") as bar:
        seen = 0

        def report(more: int) -> None:
            nonlocal seen
            seen += more
            bar.update(round(seen / 1e6) - bar.n)

        problems += find_damage(folder, progress=report)
    if other is not None:
        problems += differences(folder, other)
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{folder}: {len(problems)} differences")
    files = sum(len(split["files"]) for split in info["splits"].values())
    same = f", the same as {other}" if other else ""
    print(f"{folder}: {files} files, {size / 1e6:.1f} MB: all as info.json says{same}")
