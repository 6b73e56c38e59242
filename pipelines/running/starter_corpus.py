"""What stage corpus does: makes the starter corpus where corpus.root names it, and describes it."""

import json
import shutil
from pathlib import Path

import numpy as np

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.corpus import starter
from stemforge.features.corpus.sources import MIXTURE, STEM_SUFFIX
from stemforge.features.corpus.stem_files import write_stems
from stemforge.pipelines.console import say
from stemforge.pipelines.params import Starter, read_params
from stemforge.pipelines.paths import CORPUS_CARD, STARTER
from stemforge.pipelines.releases.git import head_commit
from stemforge.pipelines.running.musdb18_7 import link_by_name
from stemforge.pipelines.running.named_corpora import NAME
from stemforge.pipelines.running.parallel import map_tracks
from stemforge.pipelines.running.work import explain_empty, work_folder
from stemforge.pipelines.running.workspaces import link_published, link_root, origin, publish_all

SMOKE_REMARK = (
    "**A smoke corpus, not a benchmark**: a dozen generated songs of a few seconds and one real "
    "excerpt. It shows that everything works, not how well a model separates music."
)


def make_corpus() -> None:
    """Writes data/corpus.json, and data/starter (empty where another corpus is named).

    A corpus that corpus.root calls by its name is fetched, if it is not there.

    Raises:
        UserError: corpus.root names no folder, or its corpus cannot be fetched.
    """
    params = read_params()
    try:
        head_commit()
    except UserError as error:  # all stages work without
        say(f"corpus: `stemforge release` will fail: {error}")
    root = params.corpus.root
    is_starter = storage.is_local(root) and Path(root) == STARTER
    if not is_starter:
        link_root(root)
        link_by_name(root)
        check_corpus_root(root)
    with work_folder("corpus", params.starter.model_dump(), root) as work:
        outs = (STARTER, CORPUS_CARD)
        if link_published(work, outs):
            return
        folder = work / "starter"
        folder.mkdir(exist_ok=True)
        if is_starter:
            write_starter(folder, params.starter)
        else:
            explain_empty(folder, f"corpus.root={root}: the starter corpus is not made.")
        card = {"root": params.corpus.root, "remark": SMOKE_REMARK if is_starter else ""}
        (work / CORPUS_CARD.name).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        publish_all(work, outs)


def check_corpus_root(root: str) -> None:
    """Checks that corpus.root is a folder.

    Raises:
        UserError: it is none.
    """
    if storage.is_folder(root):
        return
    why = f"corpus.root={root}: no such folder"
    if root.casefold() == NAME:
        why += f": the corpus by name is {NAME}"
    if storage.is_local(root) and not Path(root).is_absolute():
        why += f": a relative path starts at the checkout, {origin() or Path.cwd()}"
    raise UserError(why)


def write_starter(folder: Path, config: Starter) -> None:
    """Writes the starter corpus as .stem.mp4 files; songs that are there already stay."""
    ffmpeg.put_ffmpeg_on_path()
    import stempeg

    plan: list[tuple[str, int, float]] = [
        ("train", config.train_songs, config.train_duration_s),
        ("test", config.test_songs, config.test_duration_s),
    ]
    jobs = []
    for split, songs, duration_s in plan:
        (folder / split).mkdir(exist_ok=True)
        for number in range(1, songs + 1):
            name = f"Starter - {split.title()} {number:02d}"
            path = folder / split / f"{name}{STEM_SUFFIX}"
            jobs.append((name, (path, split, (config.seed, number), duration_s)))
    map_tracks(_write_song, jobs, label="corpus")
    real = Path(stempeg.example_stem_path())
    shutil.copyfile(real, folder / "test" / real.name)


def _write_song(path: Path, split: str, seed: tuple[int, int], duration_s: float) -> None:
    if path.exists():
        return
    palette = starter.HELD_OUT if split == "test" else starter.TRAIN
    random = np.random.default_rng((*seed, int(split == "test")))
    sources = starter.generate_song(random, palette, duration_s=duration_s)
    names = (MIXTURE, *starter.STREAMS)
    write_stems(path, np.stack([sources[name] for name in names]), sources=names)
