"""Stage evaluate: estimates/ and the oracles -> scores/ (museval JSON, scores.parquet)."""

import json
import os
from pathlib import Path
from typing import Any

from eval import scores
from eval.oracles import METHODS
from features.audio import SAMPLE_RATE_HZ, read_audio
from features.errors import UserError
from features.tracks import MIXTURE, Manifest, Track, read_manifest
from pipelines.console import run_main, say
from pipelines.parallel import map_tracks
from pipelines.params import Evaluate, read_params
from pipelines.paths import ESTIMATES, SCORES, TRACKS
from pipelines.work import file_sha256, publish, work_folder

MODEL = "stemforge"  # our method's name in the tables


def main() -> None:
    """Scores every test track by every method that is not scored yet."""
    # A process a track: more threads in each would only compete.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    params = read_params()
    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    methods = [MODEL, *METHODS]
    identity = (params.evaluate.model_dump(), file_sha256(TRACKS), _estimates_identity(manifest))
    with work_folder("evaluate", *identity) as work:
        jobs = []
        for track in tracks:
            for method in methods:
                done = work / "scores" / method / "test" / f"{track.name}.json"
                done.parent.mkdir(parents=True, exist_ok=True)
                job = (manifest, track, method, params.evaluate, done)
                jobs.append((f"{method} {track.name}", job))
        rows = []
        for part in map_tracks(_score_once, jobs, label="evaluate"):
            rows += part
        scores.write_scores(work / "scores" / "scores.parquet", rows)
        silent = {(row["track"], row["target"], row["note"]) for row in rows if row["note"]}
        for track_name, target, note in sorted(silent):
            say(f"evaluate: {track_name}: {target} has no score: {note}")
        for leftover in (work / "scores").glob("*/test/.*.notes"):
            leftover.unlink()
        publish(work / "scores", SCORES)


def _estimates_identity(manifest: Manifest) -> list[str]:
    paths = [
        _estimate_path(track, stem) for track in manifest.split("test") for stem in manifest.stems
    ]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such file: run `dvc repro` up to separate")
    return [file_sha256(path) for path in paths]


def _estimate_path(track: Track, stem: str) -> Path:
    return ESTIMATES / track.name / f"{stem}.wav"


def _score_once(
    manifest: Manifest, track: Track, method: str, config: Evaluate, done: Path
) -> list[dict[str, Any]]:
    """Scores one track by one method, unless an earlier run did."""
    notes_path = done.with_name(f".{done.stem}.notes")
    windows = config.model_dump()
    if not done.exists():
        values, notes = scores.score_track(
            *_read_pair(manifest, track, method),
            sample_rate_hz=SAMPLE_RATE_HZ,
            workers=1,
            **windows,
        )
        notes_path.write_text(json.dumps(notes), encoding="utf-8")
        temporary = done.with_name(f".{done.name}.tmp")
        temporary.write_text(scores.museval_json(track.name, values, **windows), encoding="utf-8")
        temporary.rename(done)
    text = done.read_text(encoding="utf-8")
    notes = json.loads(notes_path.read_text(encoding="utf-8"))
    return scores.score_rows(method, track.name, text, notes)


def _read_pair(
    manifest: Manifest, track: Track, method: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """True stems and a method's estimates of them."""
    references = {stem: read_audio(manifest.path(track, stem)) for stem in manifest.stems}
    if method == MODEL:
        estimates = {stem: read_audio(_estimate_path(track, stem)) for stem in manifest.stems}
    else:
        mixture = read_audio(manifest.path(track, MIXTURE))
        estimates = METHODS[method](mixture, references)
    return references, estimates


if __name__ == "__main__":
    raise SystemExit(run_main(main))
