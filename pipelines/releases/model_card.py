"""A release's README.md, which is its model card, licence and citation.

Every figure comes from a measured file.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from stemforge.eval.config import MODEL, ORACLES
from stemforge.eval.exports.bounds import segment_name
from stemforge.features.corpus.sources import scored_rest_of
from stemforge.pipelines.releases.files import models
from stemforge.pipelines.releases.front_matter import corpus_name, front_matter, to_yaml
from stemforge.train.model_files import model_name, read_card

# SPDX identifiers that a release's weights may have, with name and address of their text.
LICENCES = {
    "CC0-1.0": ("Creative Commons Zero 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0",
        "https://creativecommons.org/licenses/by/4.0/",
    ),
    "CC-BY-NC-SA-4.0": (
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    "MIT": ("MIT License", "https://spdx.org/licenses/MIT.html"),
}
TEMPLATES = ("README.md", "LICENSE", "CITATION.cff")


def render(
    folder: Path,
    record: Mapping[str, Any],
    corpus: Mapping[str, Any],
    parity: Mapping[str, Any],
) -> dict[str, str]:
    """The texts of a release.

    Args:
        folder: of the release, with models/ and leaderboard/ in it.
        record: its provenance.
        corpus: data/corpus.json.
        parity: exports/parity.json.

    Returns:
        By file name.
    """
    environment = Environment(
        loader=PackageLoader("stemforge.pipelines.releases"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = to_yaml
    config = record["parameters"]["release"]
    licence, address = LICENCES[config["license"]]
    scores = json.loads((folder / "leaderboard" / "metrics.json").read_text(encoding="utf-8"))
    values = {
        "record": record,
        "release": config,
        "licence": licence,
        "licence_address": address,
        "front_matter": front_matter(record, scores.get(MODEL, {})),
        "corpus": corpus,
        "corpus_name": corpus_name(record),
        "accepted": record.get("code", {}).get("accepted", []),
        **_of_models(folder, record),
        **_of_scores(folder, record),
        "exports": _exports(folder, parity),
    }
    return {name: environment.get_template(f"{name}.jinja").render(values) for name in TEMPLATES}


def _of_models(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the README says of nets, training and segments."""
    cards = [read_card(path) for path in models(folder)]
    card, net = cards[0], cards[0]["net"]
    hop_samples, rate_hz = card["frame_step_samples"], card["sample_rate_hz"]
    frames = min(record["parameters"]["export"]["frames"])
    segment = {
        "file": segment_name(frames),
        "samples": (frames - 1) * hop_samples + card["frame_length_samples"],
        "step": frames * hop_samples,
    }
    return {
        "card": card,
        "net": net,
        "models": [path.name for path in models(folder)],
        "steps": {model_name(card["stems"]): card["provenance"]["step"] for card in cards},
        "train": record["parameters"]["train"],
        "loss": _describe_loss(record["parameters"]["train"]["loss"]),
        "top_hz": net.bins * rate_hz / card["frame_length_samples"],
        "segment_s": net.frames * hop_samples / rate_hz,
        "segment": segment if (folder / "exports" / segment["file"]).exists() else None,
    }


def _describe_loss(weights: Mapping[str, float]) -> str:
    """A sum of losses, such as "l1 + 0.1 mask"."""
    return " + ".join(name if w == 1.0 else f"{w:g} {name}" for name, w in weights.items())


def _of_scores(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the README says of tracks and scores."""
    table = pd.read_parquet(folder / "leaderboard" / "leaderboard.parquet")
    table = table[table["test_set"] == ""]  # of these songs
    corpus_stems = record["corpus"]["stems"]
    known = {stem for path in models(folder) for stem in read_card(path)["stems"]}
    stems = [stem for stem in corpus_stems if stem in known]
    # A single stem is scored as a pair with the rest.
    scored = set(table["target"])
    rest = scored_rest_of(stems[0], corpus_stems, scored) if len(stems) == 1 else None
    targets = [*stems, rest] if rest else stems
    counts = {f"{split}_tracks": _count(record, split) for split in ("train", "valid", "test")}
    return counts | {
        "leaderboard": record["parameters"]["leaderboard"],
        "stems": stems,
        "rest": rest,
        "targets": targets,
        "rows": _rows(table, targets),
        "has_intervals": bool(table["SDR_low"].notna().any()),
        "worst": _worst_tracks(folder, stems),
    }


def _count(record: Mapping[str, Any], split: str) -> dict[str, Any]:
    found = record["corpus"]["splits"].get(split, {"tracks": [], "seconds": 0.0})
    return {"count": len(found["tracks"]), "minutes": found["seconds"] / 60}


def _rows(table: pd.DataFrame, targets: list[str]) -> list[dict[str, Any]]:
    """SDR with its interval, where there is one, of ours and of mixture and oracles.

    SiSEC 2018's have a longer name, and are not here.
    """
    cells = {(row["method"], row["target"]): row for row in table.to_dict("records")}

    def cell(method: str, target: str) -> str:
        row = cells.get((method, target), {})
        sdr, low, high = (float(row.get(f"SDR{x}", math.nan)) for x in ("", "_low", "_high"))
        if math.isnan(sdr):
            return "-"
        interval = "" if math.isnan(low) else f" ({_decibels(low)} to {_decibels(high)})"
        return f"{_decibels(sdr)}{interval}"

    there = set(table["method"])
    methods = [MODEL, *(name for name in ORACLES if name in there)]
    return [{"method": m, "cells": [cell(m, target) for target in targets]} for m in methods]


def _decibels(value: float) -> str:
    """Two decimals; plus zero, because a rounded zero has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def _worst_tracks(folder: Path, stems: list[str]) -> list[dict[str, Any]]:
    """For each stem the test track that it does worst on."""
    tracks = pd.read_csv(folder / "leaderboard" / "tracks.csv")
    ours = tracks[(tracks["method"] == MODEL) & tracks["SDR"].notna()]
    found = []
    for stem in stems:
        rows = ours[ours["target"] == stem].sort_values(["SDR", "track"])
        if len(rows):
            found.append({"stem": stem, "track": rows.iloc[0]["track"],
                          "SDR": _decibels(float(rows.iloc[0]["SDR"]))})  # fmt: skip
    return found


def _exports(folder: Path, parity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each kind of exported file: its largest size, and the parity of its worst file and stem."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name, stems in sorted(parity.items()):
        path = folder / "exports" / name.split(",")[0]
        if not path.exists():
            continue  # refused, and left out
        model = Path(name).parent.name
        kind = f"MODEL/{Path(name).name.replace(model, 'MODEL', 1)}" if model else name
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) or path.stat().st_size
        changes = [v["sdr_change_db"] for v in stems.values() if v["sdr_change_db"] is not None]
        kinds.setdefault(kind, []).append({
            "megabytes": size / 1e6,
            "difference": max(v["relative_difference"] for v in stems.values()),
            "change_db": min(changes, default=None),
        })  # fmt: skip
    return [_worst_file(kind, files) for kind, files in kinds.items()]


def _worst_file(kind: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    changes = [file["change_db"] for file in files if file["change_db"] is not None]
    return {
        "name": kind if len(files) == 1 else f"{kind}, {len(files)} files",
        "megabytes": max(file["megabytes"] for file in files),
        "difference": max(file["difference"] for file in files),
        # Plus zero: a loss of nothing has no sign.
        "sdr_change_db": round(min(changes), 3) + 0.0 if changes else None,
    }
