"""A release's model card, licence and citation. Every figure comes from a measured file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from stemforge.eval.config import MODEL
from stemforge.eval.leaderboard.tables import is_reference
from stemforge.pipelines.releases.files import models
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
TEMPLATES = ("MODEL_CARD.md", "LICENSE", "CITATION.cff")


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
    cards = [read_card(path) for path in models(folder)]
    table = pd.read_parquet(folder / "leaderboard" / "leaderboard.parquet")
    stems = record["corpus"]["stems"]
    rate_hz, net = cards[0]["sample_rate_hz"], cards[0]["net"]
    config = record["parameters"]["release"]
    licence, address = LICENCES[config["license"]]
    environment = Environment(
        loader=PackageLoader("stemforge.pipelines.releases"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = json.dumps
    values = {
        "record": record,
        "release": config,
        "licence": licence,
        "licence_address": address,
        "corpus": corpus,
        "stems": stems,
        "net": net,
        "card": cards[0],
        "models": [path.name for path in models(folder)],
        "steps": {model_name(card["stems"]): card["provenance"]["step"] for card in cards},
        "train": record["parameters"]["train"],
        "top_hz": net.bins * rate_hz / cards[0]["frame_length_samples"],
        "segment_s": net.frames * cards[0]["frame_step_samples"] / rate_hz,
        "rows": _rows(table, stems),
        "worst": _worst_tracks(folder, stems),
        "exports": _exports(folder, parity),
        "frames": record["parameters"]["export"]["frames"],
        "train_tracks": _count(record, "train"),
        "valid_tracks": _count(record, "valid"),
        "test_tracks": _count(record, "test"),
    }
    return {name: environment.get_template(f"{name}.jinja").render(values) for name in TEMPLATES}


def _count(record: Mapping[str, Any], split: str) -> dict[str, Any]:
    found = record["corpus"]["splits"].get(split, {"tracks": [], "seconds": 0.0})
    return {"count": len(found["tracks"]), "minutes": found["seconds"] / 60}


def _rows(table: pd.DataFrame, stems: list[str]) -> list[dict[str, Any]]:
    """SDR with its interval, where there is one, of ours and of mixture and oracles."""
    cells = {(row["method"], row["target"]): row for row in table.to_dict("records")}

    def cell(method: str, stem: str) -> str:
        row = cells.get((method, stem), {})
        sdr, low, high = (float(row.get(f"SDR{x}", math.nan)) for x in ("", "_low", "_high"))
        if math.isnan(sdr):
            return "-"
        interval = "" if math.isnan(low) else f" ({low:.2f} to {high:.2f})"
        return f"{sdr:.2f}{interval}"

    methods = [MODEL, *sorted(m for m in set(table["method"]) if is_reference(m))]
    return [{"method": m, "cells": [cell(m, stem) for stem in stems]} for m in methods]


def _worst_tracks(folder: Path, stems: list[str]) -> list[dict[str, Any]]:
    """For each stem the test track that it does worst on."""
    tracks = pd.read_csv(folder / "leaderboard" / "tracks.csv")
    ours = tracks[(tracks["method"] == MODEL) & tracks["SDR"].notna()]
    found = []
    for stem in stems:
        rows = ours[ours["target"] == stem].sort_values(["SDR", "track"])
        if len(rows):
            found.append({"stem": stem, "track": rows.iloc[0]["track"],
                          "SDR": float(rows.iloc[0]["SDR"])})  # fmt: skip
    return found


def _exports(folder: Path, parity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each exported file with its size and its worst stem's parity."""
    found = []
    for name, stems in sorted(parity.items()):
        path = folder / "exports" / name.split(",")[0]
        if not path.exists():
            continue  # refused, and left out
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) or path.stat().st_size
        changes = [v["sdr_change_db"] for v in stems.values() if v["sdr_change_db"] is not None]
        found.append({
            "name": name,
            "megabytes": size / 1e6,
            "difference": max(v["relative_difference"] for v in stems.values()),
            # Plus zero: a loss of nothing has no sign.
            "sdr_change_db": round(min(changes), 3) + 0.0 if changes else None,
        })  # fmt: skip
    return found
