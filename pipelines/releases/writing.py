"""Writing a release from the stages' outputs.

The folder holds models, exports, scores, leaderboard and report, a model card, where all of it
comes from (provenance.json), licence, citation, and SHA256SUMS of every other file. It holds no
time stamp.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.exports.bounds import PARITY
from stemforge.eval.scoring.scores import FRAME_TABLE, WHOLE_TABLE
from stemforge.features.corpus.manifest import Track, read_manifest
from stemforge.pipelines.console import say
from stemforge.pipelines.params import Params
from stemforge.pipelines.paths import (
    CORPUS_CARD,
    EXPORTS,
    LEADERBOARD,
    MODELS,
    REPORT,
    SCORES,
    TRACKS,
)
from stemforge.pipelines.releases import model_card, provenance
from stemforge.pipelines.releases.files import PROVENANCE, SUMS, files, sums
from stemforge.pipelines.running.work import publish, work_folder


def write_release(params: Params, out: Path, *, name: str, version: str, allow_dirty: bool) -> None:
    """Writes a release from the stages' outputs.

    Args:
        params: of the checkout.
        out: folder; replaced.
        name: of the release.
        version: semantic.
        allow_dirty: whether the tree may have changes, and models may come from other code or
            packages; both are written down.

    Raises:
        UserError: changes, a stage's output that is missing or out of date, a model of other code
            or packages, one without a score, or an export without parity.
    """
    for place in (CORPUS_CARD, TRACKS, MODELS, EXPORTS, SCORES, LEADERBOARD, REPORT):
        if not place.exists():
            raise UserError(f"{place}: no such file or folder: run `dvc repro` first")
    record = {"name": name, "version": version, **_record(params)}
    if not record["git"]["clean"] and not allow_dirty:
        changed = ", ".join(record["git"]["changed"])
        raise UserError(f"uncommitted changes ({changed}): commit them, or add --allow-dirty")
    if stale := provenance.stale_stages():
        raise UserError(f"out of date: {', '.join(stale)}: run `dvc repro` first")
    others = provenance.other_origins([MODELS / model for model in params.models], record)
    if others and not allow_dirty:
        raise UserError(
            f"{next(iter(others.values()))}: train again (`dvc repro --force --single-item "
            "train`), or add --allow-dirty, which writes it down"
        )
    record["code"]["accepted"] = sorted(others)
    metrics = _read_json(LEADERBOARD / "metrics.json")
    parity = _read_json(EXPORTS / PARITY)
    check_complete(read_manifest(TRACKS).split("test"), params.estimated_stems, metrics, parity)
    with work_folder("release", str(out)) as work:
        fresh = work / "release"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for model in params.models:
            shutil.copytree(MODELS / model, fresh / "models" / model, ignore=_hidden)
        shutil.copytree(EXPORTS, fresh / "exports", ignore=_hidden)
        shutil.copytree(LEADERBOARD, fresh / "leaderboard", ignore=_hidden)
        shutil.copytree(REPORT, fresh / "report", ignore=_hidden)
        (fresh / "scores").mkdir()
        for table in (FRAME_TABLE, WHOLE_TABLE):
            shutil.copy(SCORES / table, fresh / "scores")
        (fresh / PROVENANCE).write_text(provenance.to_json(record), encoding="utf-8")
        corpus = _read_json(CORPUS_CARD)
        for file, text in model_card.render(fresh, record, corpus, parity).items():
            (fresh / file).write_text(text, encoding="utf-8")
        (fresh / SUMS).write_text(sums(fresh), encoding="utf-8")
        publish(fresh, out)
    say(f"{out}: {name} {version}, {len(files(out))} files")


def _hidden(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if storage.is_hidden(name)]


def _record(params: Params) -> dict[str, Any]:
    return provenance.collect(
        params,
        read_manifest(TRACKS),
        _read_json(CORPUS_CARD),
        tracks_sha256=storage.file_sha256(TRACKS),
    )


def check_complete(
    tracks: Sequence[Track], stems: Sequence[str], metrics: dict[str, Any], parity: dict[str, Any]
) -> None:
    """Refuses what was not measured.

    Args:
        tracks: the test tracks. A stem that is silent in all of them can have no score.
        stems: those that the models estimate.
        metrics: of leaderboard/metrics.json.
        parity: of exports/parity.json.

    Raises:
        UserError: a stem without a score, or an exported file without parity.
    """
    ours = metrics.get(MODEL, {})
    for stem in stems:
        is_silent = not any(track.source(stem).peak for track in tracks)
        if ours.get(stem, {}).get("SDR") is None and not is_silent:
            raise UserError(
                f"{LEADERBOARD}/metrics.json: no score of {stem}: run `dvc repro` first"
            )
    proven = {entry.split(",")[0] for entry, found in parity.items()
              if not any("refused" in values for values in found.values())}  # fmt: skip
    for path in storage.visible(EXPORTS.rglob("*.tflite"), EXPORTS):
        if path.relative_to(EXPORTS).as_posix() not in proven:
            raise UserError(f"{path}: no entry in {EXPORTS}/{PARITY}: run `dvc repro` first")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: run `dvc repro` first") from None
