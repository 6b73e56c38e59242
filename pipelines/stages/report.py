"""Stage report: leaderboard/, scores/, estimates/ and models/ -> report/ (a page with sound)."""

import functools
import shutil

from stemforge.eval.config import MODEL
from stemforge.eval.scoring.estimates import find_estimates
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.track_audio import DecodedAudio
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import ESTIMATES, LEADERBOARD, MODELS, REPORT, SCORES, TRACKS
from stemforge.pipelines.running.report_sounds import Sources
from stemforge.pipelines.running.reporting import Sound, read_board, write_report
from stemforge.pipelines.running.work import publish, work_folder
from stemforge.pipelines.scoring.plan import TrackSources

REPEAT = "git checkout COMMIT  # that the release's provenance.json names\nmake repro"


def main() -> None:
    """Writes the report of this checkout's leaderboard."""
    params = read_params()
    config = params.report
    sound = None
    if config.audio == "excerpts":
        licence = params.release.corpus_license
        sound = Sound(find_songs(), licence, config.seconds, config.bitrate)
    with work_folder("report") as work:
        out = work / "report"
        shutil.rmtree(out, ignore_errors=True)  # of a killed run
        out.mkdir()
        write_report(
            out,
            read_board(str(LEADERBOARD), str(SCORES)),
            sound,
            title=None,
            models=[MODELS / model for model in params.models],
            repeat=REPEAT,
            single_file=False,
            label="report",
        )
        publish(out, REPORT)


def find_songs() -> dict[str, Sources]:
    """The decoded test tracks and our estimates of them."""
    manifest = read_manifest(TRACKS)
    songs = manifest.split("test")
    decoded = DecodedAudio(str(manifest.audio_root.resolve()))
    estimates = find_estimates(
        str(ESTIMATES.resolve()),
        tracks=[song.name for song in songs],
        stems=manifest.stems,
        complete=all(song.is_complete for song in songs),
    )
    return {
        song.name: Sources(
            TrackSources(song.name, functools.partial(decoded.open, song)),
            {MODEL: estimates.files[song.name]},
        )
        for song in songs
    }


if __name__ == "__main__":
    raise SystemExit(run_main(main))
