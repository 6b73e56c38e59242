"""`stemforge import-scores`: adds the scores of other methods to the comparison."""

import argparse
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import IncompleteError, UserError
from stemforge.eval.config import ORACLES
from stemforge.pipelines.console import say
from stemforge.pipelines.options import check_method_name, local_path
from stemforge.text import decode_text


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "import-scores",
        help="add the scores of other methods (museval JSON) to the comparison",
        description="Checks a folder of museval's JSON files and copies them to "
        "OUTPUT/NAME/test/TRACK.json. The next `stemforge score` with the same OUTPUT, or the "
        "next `dvc repro`, reads them there.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the method in the tables")
    parser.add_argument(
        "folder",
        type=local_path,
        metavar="FOLDER",
        help="folder with TRACK.json or test/TRACK.json",
    )
    parser.add_argument(
        "--output",
        default="comparisons",
        metavar="DIR",
        help="folder of scores, local or a URL (default: %(default)s, which `dvc repro` reads)",
    )
    parser.set_defaults(run=import_scores, extra="score")


def import_scores(arguments: argparse.Namespace) -> None:
    """`stemforge import-scores`.

    Raises:
        UserError: nothing to import.
        IncompleteError: some files are broken and were left out.
    """
    from stemforge.eval.scoring.scores import from_json
    from stemforge.pipelines.scoring.score_files import SCORED, scores_place

    check_method_name(arguments.name)
    if arguments.name in ORACLES:
        raise UserError(
            f"{arguments.name}: this name is reserved for an oracle: choose another name"
        )
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = storage.visible([*folder.glob("*.json"), *folder.glob(f"{SCORED}/*.json")], folder)
    texts: dict[str, str] = {}
    broken = []
    for path in paths:
        try:
            file = path.read_bytes()
            track = storage.comparable(path.stem)
            if track in texts:
                raise ValueError("a second file of this track: remove one")
            if not from_json(track, file).frames:
                raise ValueError("no target in it")
            texts[track] = decode_text(file)
        except ValueError as error:
            broken.append(path)
            say(f"import-scores: {path}: {error}")
    if not texts:
        what = (
            f"none of its {len(paths)} JSON files is museval's" if paths else "no JSON file in it"
        )
        raise UserError(f"{folder}: {what}: expected TRACK.json or {SCORED}/TRACK.json")
    out = storage.absolute(arguments.output)
    for track, text in texts.items():
        storage.write_bytes(scores_place(out, arguments.name, SCORED, track), text.encode())
    say(f"import-scores: {len(texts)} tracks in {storage.join(arguments.output, arguments.name)}")
    if broken:
        raise IncompleteError(f"{len(broken)} of {len(paths)} files were left out (see above)")
