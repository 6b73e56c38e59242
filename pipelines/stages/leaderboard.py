"""Stage leaderboard: scores/ and comparisons/ -> leaderboard/ (tables, page, plots, metrics)."""

import json
from collections.abc import Sequence

from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.leaderboard.board import Leaderboard
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import Scoring
from stemforge.features.corpus.manifest import read_manifest
from stemforge.pipelines.console import run_main, say
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import COMPARISONS, CORPUS_CARD, LEADERBOARD, SCORES, TRACKS
from stemforge.pipelines.running.work import publish, work_folder
from stemforge.pipelines.scoring import score_files


def main() -> None:
    """Aggregates the scores and writes every form of the table."""
    params = read_params()
    manifest = read_manifest(TRACKS)
    card = json.loads(CORPUS_CARD.read_text(encoding="utf-8"))
    config = params.leaderboard
    found = score_files.read_scores(str(SCORES), [MODEL, *METHODS])
    tracks = {track.name for track in manifest.split("test")}
    found += read_comparisons(tracks, taken=[MODEL, *METHODS])
    table = Leaderboard(
        found,
        stems=manifest.stems,
        aggregation=Aggregation(**config.model_dump(exclude={"context"})),
        how=Scoring(**params.evaluate.model_dump(exclude={"strict"})),
        context=config.context,
    )
    introduction = [card["remark"], f"Corpus `{card['root']}`."]
    with work_folder("leaderboard") as work:
        out = work / "leaderboard"
        out.mkdir(exist_ok=True)
        page = table.write(out, introduction=introduction, metrics_of=[MODEL])
        ours = table.table[table.table["method"] == MODEL]  # for `dvc plots`
        columns = ["target", "SDR", "SDR_low", "SDR_high"]
        ours[columns].to_csv(out / f"{MODEL}.csv", index=False, float_format="%.4f")
        publish(out, LEADERBOARD)
    print(page)


def read_comparisons(tracks: set[str], *, taken: Sequence[str]) -> score_files.Scores:
    """Others' scores, as `stemforge import-scores` brings them in, on these tracks.

    Raises:
        UserError: a method has the name of one of ours.
    """
    methods = score_files.read_methods(str(COMPARISONS))
    if clash := set(methods) & set(taken):
        raise UserError(f"{COMPARISONS}/{min(clash)}: this name is reserved: rename the folder")
    found = score_files.read_scores(str(COMPARISONS), methods)
    unknown = {(method, scores.track) for method, scores in found if scores.track not in tracks}
    for method, track in sorted(unknown):
        say(f"leaderboard: {method}: {track}: unknown_track: not a test track of this corpus")
    mine = [(method, scores) for method, scores in found if scores.track in tracks]
    score_files.say_remarks(mine, label="leaderboard")
    return mine


if __name__ == "__main__":
    raise SystemExit(run_main(main))
