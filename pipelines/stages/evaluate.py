"""Stage evaluate: estimates/ and the oracles -> scores/ (museval JSON, scores.parquet)."""

import functools

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.scoring.estimates import find_estimates
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import FRAME_TABLE, Scoring
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.track_audio import DecodedAudio
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import ESTIMATES, SCORES, TRACKS
from stemforge.pipelines.running.work import publish, work_folder
from stemforge.pipelines.scoring.execution import carry_out
from stemforge.pipelines.scoring.plan import Plan, TrackSources, plan_scores
from stemforge.pipelines.scoring.score_files import read_scores, say_remarks, write_tables


def main() -> None:
    """Scores every test track by every method that is not scored yet."""
    config = read_params().evaluate
    how = Scoring(**config.model_dump(exclude={"strict"}))
    with work_folder("evaluate", config.model_dump(), storage.file_sha256(TRACKS)) as work:
        out = work / "scores"
        carry_out(plan_evaluation(str(out.resolve()), how), label="evaluate")
        found = read_scores(str(out), [MODEL, *METHODS])
        problems = say_remarks(
            found,
            label="evaluate",
            where=None if config.strict else str(SCORES / FRAME_TABLE),
        )
        if problems and config.strict:
            raise UserError(
                f"evaluate.strict=true: {problems} estimates have problems, named above"
            )
        write_tables(str(out), found)
        publish(out, SCORES)


def plan_evaluation(out: str, how: Scoring) -> Plan:
    """All methods on all test tracks, into a folder of scores.

    Raises:
        UserError: there are no estimates.
    """
    manifest = read_manifest(TRACKS)
    songs = manifest.split("test")
    names = [track.name for track in songs]
    complete = all(track.is_complete for track in songs)
    if not names:
        raise UserError(f"{TRACKS}: no test track: put some into the corpus' test/ folder")
    estimates = find_estimates(
        str(ESTIMATES.resolve()), tracks=names, stems=manifest.stems, complete=complete
    )
    audio = DecodedAudio(str(manifest.audio_root.resolve()))
    # The manifest holds checksums of the sources, and the work folder one of the manifest.
    tracks = [
        TrackSources(
            track.name,
            functools.partial(audio.open, track),
            parts={stem: (stem,) for stem in manifest.stems},
            is_complete=complete,
        )
        for track in songs
    ]
    return plan_scores(
        MODEL,
        tracks,
        estimates,
        stems=manifest.stems,
        oracles=METHODS,
        scoring=how,
        out=out,
        there=(),
    )


if __name__ == "__main__":
    raise SystemExit(run_main(main))
