"""Stage evaluate: estimates/ and the oracles -> scores/ (museval JSON, scores.parquet)."""

import functools
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.scoring.estimates import find_estimates
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import Scoring
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.track_audio import DecodedAudio
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import ESTIMATES, SCORES, TRACKS
from stemforge.pipelines.running import scoring
from stemforge.pipelines.running.scoring import FromFolder, Job, Method, Oracle
from stemforge.pipelines.running.work import publish, work_folder


def main() -> None:
    """Scores every test track by every method that is not scored yet."""
    config = read_params().evaluate
    how = Scoring(**config.model_dump(exclude={"strict"}))
    with work_folder("evaluate", config.model_dump(), storage.file_sha256(TRACKS)) as work:
        out = work / "scores"
        scoring.score_all(list_jobs(out, how), label="evaluate")
        found = scoring.read_scores(str(out), [MODEL, *METHODS])
        problems = scoring.say_remarks(found, label="evaluate")
        if problems and config.strict:
            raise UserError(
                f"evaluate.strict=true: {problems} estimates have problems, named above"
            )
        scoring.write_tables(str(out), found)
        publish(out, SCORES)


def list_jobs(out: Path, how: Scoring) -> list[Job]:
    """All methods on all test tracks.

    Raises:
        UserError: there are no estimates.
    """
    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    if not tracks:
        raise UserError(f"{TRACKS}: no test track: put some into the corpus' test/ folder")
    names = [track.name for track in tracks]
    estimates = find_estimates(str(ESTIMATES.resolve()), tracks=names, stems=manifest.stems)
    audio = DecodedAudio(str(manifest.audio_root.resolve()))
    jobs = []
    for track in tracks:
        ours = FromFolder(estimates.files[track.name], estimates.remarks[track.name])
        methods: dict[str, Method] = {MODEL: ours, **{name: Oracle(name) for name in METHODS}}
        # The manifest holds checksums of the sources, and the work folder one of the manifest.
        sources = functools.partial(audio.open, track)
        place = str(out.resolve())
        jobs += [
            Job(name, track.name, sources, (), method, how, place)
            for name, method in methods.items()
        ]
    return jobs


if __name__ == "__main__":
    raise SystemExit(run_main(main))
