"""Checks of a release: checksums, the models' origin, golden vectors, parity, scores."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.exports import files, parity, proof
from stemforge.eval.exports.bounds import PARITY, Bounds, segment_name
from stemforge.eval.exports.parity import Clip
from stemforge.eval.exports.vectors import VECTORS
from stemforge.eval.leaderboard import tables as leaderboard
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.runtimes.tensorflow import load_nets
from stemforge.eval.scoring.scores import FRAME_TABLE, WHOLE_TABLE
from stemforge.eval.scoring.track_metrics import utterance_sdr
from stemforge.eval.separation.separator import Nets
from stemforge.pipelines.console import progress
from stemforge.pipelines.releases.files import PROVENANCE, listed, models, wrong_sums
from stemforge.pipelines.releases.provenance import other_origins
from stemforge.train.config import TFLITE_FORMATS
from stemforge.train.model_files import tflite_name

MODEL_BOUND = 1e-4  # of golden vectors, relative to their rms: CPUs add in different orders
CLOSE_DB = 60.0  # SDR of one release's sound against another's that makes them close


def find_problems(folder: Path) -> Iterator[str]:
    """Problems of a release: one line each, which names the file.

    Args:
        folder: of the release.

    Raises:
        UserError: the folder is not a release.
    """
    names = listed(folder)
    found = list(wrong_sums(folder, names))
    yield from found
    if found:
        return  # nothing that was changed is run
    record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    yield from _origins(folder, record, accepted=False)
    yield from _wrong_scores(folder, record)
    yield from _wrong_outputs(folder, record)


def find_remarks(folder: Path) -> list[str]:
    """What is no problem of a release, but what its users should know: one line each.

    Args:
        folder: of a release without problems.
    """
    record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    if "code" not in record:
        return [f"{PROVENANCE}: does not say which code trained the models: an older release"]
    return [
        f"{line} (accepted when the release was written)"
        for line in _origins(folder, record, accepted=True)
    ]


def _origins(folder: Path, record: dict[str, Any], *, accepted: bool) -> Iterator[str]:
    """Models that other code or packages trained than the record names, accepted or not."""
    if "code" not in record:
        return
    for name, line in other_origins(models(folder), record).items():
        if (name in record["code"]["accepted"]) == accepted:
            yield line.removeprefix(f"{folder}/")


def _wrong_scores(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    """Makes metrics.json again from scores.parquet."""
    config = {k: v for k, v in record["parameters"]["leaderboard"].items() if k != "context"}
    aggregation = Aggregation(**config)
    tables = (pd.read_parquet(folder / "scores" / name) for name in (FRAME_TABLE, WHOLE_TABLE))
    tracks = leaderboard.track_table(*tables, frames=aggregation.frames)
    place = folder / "leaderboard" / "metrics.json"
    published = json.loads(place.read_text(encoding="utf-8"))
    found = leaderboard.metrics(leaderboard.aggregate(tracks, aggregation), [*published])
    for method, targets in published.items():
        for target, values in targets.items():
            again = found.get(method, {}).get(target)
            if again != values:
                yield f"leaderboard/metrics.json: {method}, {target}: not what scores/ gives"


@dataclass(frozen=True)
class _Release:
    """What the checks of a release's files need.

    Attributes:
        folder: of the release.
        models: its model directories.
        arrays: its golden vectors.
    """

    folder: Path
    models: list[Path]
    arrays: dict[str, Any]

    @staticmethod
    def read(folder: Path) -> "_Release":
        with np.load(folder / "exports" / VECTORS / "vectors.npz") as stored:
            arrays = dict(stored)
        return _Release(folder, models(folder), arrays)

    @property
    def clip(self) -> Clip:
        return Clip(self.arrays["waveform"], {})

    def nets(self, frames: int | None = None) -> list[Nets]:
        return [load_nets(model, frames=frames) for model in self.models]


def _wrong_outputs(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    """Runs every model against the golden vectors, and every export against the models."""
    release = _Release.read(folder)
    values = record["parameters"]["export"]
    frames, bounds = values["frames"], Bounds(**{k: v for k, v in values.items() if k != "frames"})
    exports = folder / "exports"
    yield from _missing_exports(exports)
    kinds = TFLITE_FORMATS
    with progress(2 + len(kinds) + len(frames), label="verify", unit="check") as bar:
        yield from _wrong_models(release, min(frames))
        bar.update()
        nets = release.nets()
        path = exports / files.SAVED_MODEL
        measured = proof.measure_saved_model(path, nets, [release.clip])
        yield from _differences(path.name, measured, bounds)
        bar.update()
        for kind in kinds:
            paths = [exports / m.name / tflite_name(m.name, kind) for m in release.models]
            there = [(path, net) for path, net in zip(paths, nets, strict=True) if path.exists()]
            if there:
                paths, own = ([*part] for part in zip(*there, strict=True))
                measured = proof.measure_tflite(paths, own, [release.clip])
                yield from _differences(f"tflite_{kind}", measured, bounds)
            bar.update()
        for count in frames:
            path = exports / segment_name(count)
            if path.exists():
                measured = proof.measure_segment(path, release.nets(count), [release.clip])
                yield from _differences("segment", measured, bounds)
            bar.update()


def _missing_exports(exports: Path) -> Iterator[str]:
    parity = json.loads((exports / PARITY).read_text(encoding="utf-8"))
    for name, stems in parity.items():
        refused = any("refused" in values for values in stems.values())
        if not refused and not (exports / name.split(",")[0]).exists():
            yield f"exports/{name}: missing"


def _wrong_models(release: _Release, frames: int) -> Iterator[str]:
    mixture = release.arrays["magnitude"]
    for model, nets in zip(release.models, release.nets(frames), strict=True):
        parts = [nets(part) for part in np.split(mixture, len(mixture) // frames)]
        for stem in nets.interface.stems:
            found = np.concatenate([part[stem] for part in parts])
            measured = parity.compare(found, release.arrays[f"estimate_{stem}"])
            if not measured.finite or measured.relative_difference > MODEL_BOUND:
                yield (
                    f"models/{model.name}: {stem}: differs from the golden vectors by "
                    f"{measured.relative_difference:.1e} of their rms, more than {MODEL_BOUND:.0e}"
                )


def _differences(kind: str, measured: proof.Measured, bounds: Bounds) -> Iterator[str]:
    for name, stems in measured.items():
        for stem, values in stems.items():
            try:
                bounds.check(f"exports/{name}: {stem}", kind, values)
            except UserError as error:
                yield str(error).removeprefix("export: ")


def compare(ours: Path, theirs: Path) -> tuple[list[str], bool]:
    """How two releases differ.

    Args:
        ours: a release.
        theirs: another.

    Returns:
        Lines: files that differ, differences in provenance, both scores, and how far apart they
        sound on our golden clip; and whether they are the same or close (CLOSE_DB: the same
        weights, apart from rounding).

    Raises:
        UserError: one of them is not a release, or the other was changed.
    """
    here, there = listed(ours), listed(theirs)
    if wrong := next(wrong_sums(theirs, there), None):
        raise UserError(
            f"{theirs}: {wrong}: a changed release cannot be compared: use an unchanged copy"
        )
    lines = [
        f"{name}: {'differs' if name in here and name in there else 'only in one'}"
        for name in sorted(set(here) | set(there))
        if here.get(name) != there.get(name)
    ]
    if not lines:
        return [], True
    records, metrics = (
        [json.loads((folder / name).read_text(encoding="utf-8")) for folder in (ours, theirs)]
        for name in (PROVENANCE, "leaderboard/metrics.json")
    )
    lines += [*_record_differences(*records), *_other_scores(*metrics)]
    close = True
    clip = _Release.read(ours).clip
    found, other = (
        parity.separate_clips(_Release.read(folder).nets(), [clip])[0] for folder in (ours, theirs)
    )
    for stem in sorted(set(found) | set(other)):
        if stem not in found or stem not in other:
            lines.append(f"{stem}: only in one")
            close = False
            continue
        difference = float(np.max(np.abs(found[stem] - other[stem])))
        if difference == 0.0:
            lines.append(f"{stem}: sounds exactly the same")
            continue
        sdr_db = utterance_sdr(other[stem], found[stem])
        close &= sdr_db >= CLOSE_DB
        word = "close" if sdr_db >= CLOSE_DB else "another sound"
        lines.append(f"{stem}: {word}: SDR {sdr_db:.1f} dB, largest difference {difference:.1e}")
    return lines, close


def _record_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Differences between two records of provenance, apart from results."""
    known = [
        {
            f"{place}.{key}": value
            for place in ("git", "code", "parameters", "corpus", "packages", "machine")
            for key, value in _flat(record.get(place, {}))  # older releases have no code
            if key != "changed"
        }
        | {"python": record["python"]}
        for record in (ours, theirs)
    ]
    for name in sorted({*known[0], *known[1]}):
        values = [values.get(name) for values in known]
        if values[0] != values[1]:
            one, other = (json.dumps(value, ensure_ascii=False) for value in values)
            yield f"{PROVENANCE}: {name}: {one} and {other}"


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in _flat(value))
        else:
            yield name, value


def _other_scores(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Each stem's SDR, where the two differ."""
    for stem, values in ours.get(MODEL, {}).items():
        one, other = values["SDR"], theirs.get(MODEL, {}).get(stem, {}).get("SDR")
        if one != other and other is not None:
            yield f"{stem}: scored {one:.2f} and {other:.2f} dB"
