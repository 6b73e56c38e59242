"""Temporary workspaces, in which `dvc exp run --temp` and `--queue` run experiments.

Such a workspace is a copy of the checkout's tracked files; what DVC hashes but does not cache is
not in it. These stages take it from the checkout, by hard links, where it is exactly what they
would make again.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from stemforge import storage
from stemforge.pipelines.running.work import WORK, publish
from stemforge.unfinished import finishing

PUBLISHED = "published.json"  # in .work/<stage>/: what the stage has published last
EXPERIMENTS = (".dvc", "tmp", "exps")  # DVC's folder for temporary workspaces


def origin() -> Path | None:
    """The checkout whose experiment runs here; None outside of a temporary workspace."""
    here = Path.cwd()
    for folder in here.parents:
        if folder.parts[-len(EXPERIMENTS) :] == EXPERIMENTS:
            return folder.parents[len(EXPERIMENTS) - 1]
    return None


def publish_all(work: Path, outs: Sequence[Path]) -> None:
    """Publishes a stage's outputs from its work folder, and notes what they were made from.

    Args:
        work: the work folder; the outputs have their own names in it.
        outs: in this order.
    """
    for out in outs:
        publish(work / out.name, out)
    note = {"work": work.name, "outs": {str(out): _identity(out) for out in outs}}
    with finishing(work.parent / PUBLISHED) as fresh:
        fresh.write_text(json.dumps(note), encoding="utf-8")


def link_published(work: Path, outs: Sequence[Path]) -> bool:
    """In a temporary workspace: links the checkout's outputs of the same parameters and inputs.

    Args:
        work: this stage's work folder; its name is a hash of all that decides the outputs.
        outs: as for `publish_all`.

    Returns:
        Whether the outputs are there now.
    """
    checkout = origin()
    if checkout is None:
        return False
    place = checkout / WORK / work.parent.name / PUBLISHED
    if not place.is_file():
        return False
    note = json.loads(place.read_text(encoding="utf-8"))
    there = {str(out): _identity(checkout / out) for out in outs}
    if note != {"work": work.name, "outs": there}:
        return False
    for out in outs:
        shutil.rmtree(work / out.name, ignore_errors=True)
        if (checkout / out).is_dir():
            shutil.copytree(checkout / out, work / out.name, copy_function=_link)
        else:
            _link(str(checkout / out), str(work / out.name))
    publish_all(work, outs)
    return True


def link_root(root: str) -> None:
    """In a temporary workspace: links a corpus that a relative path names in the checkout.

    The link to ../corpus is beside the workspace, and stays. So it leads to the checkout's path,
    whatever that leads to later, and one that leads nowhere is replaced.
    """
    checkout, place = origin(), Path(root)
    if checkout is None or place.is_absolute() or place.exists() or not storage.is_local(root):
        return
    if (checkout / place).is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with finishing(place, by_process=True) as link:  # other experiments may make it too
            link.symlink_to(checkout / place)


def _identity(place: Path) -> str:
    """sha256 of a file; of a folder, the names and sizes of its files."""
    if place.is_file():
        return storage.file_sha256(place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return json.dumps([(str(path.relative_to(place)), path.stat().st_size) for path in files])


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or one without hard links
        shutil.copy2(source, target)
    return target
