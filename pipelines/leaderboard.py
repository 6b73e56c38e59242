"""Stage leaderboard: scores/scores.parquet -> leaderboard/ (Markdown, CSV, metrics, plots)."""

import json

import pandas as pd

from eval import leaderboard
from features.tracks import read_manifest
from pipelines.console import run_main
from pipelines.evaluate import MODEL
from pipelines.paths import CORPUS_CARD, LEADERBOARD, SCORES, TRACKS
from pipelines.work import publish, work_folder

METHOD_NOTES = (
    "`MIX` is the unprocessed mixture as estimate, the floor. The ceilings know the truth: `IRM1` "
    "and `IRM2` are ideal ratio masks, `IBM1` and `IBM2` ideal binary ones, of magnitudes and of "
    "energies, `MWF` is a multichannel Wiener filter; all as in SiSEC 2018."
)


def main() -> None:
    """Aggregates the scores and writes every form of the table."""
    targets = read_manifest(TRACKS).stems
    card = json.loads(CORPUS_CARD.read_text(encoding="utf-8"))
    scores = pd.read_parquet(SCORES / "scores.parquet")
    table = leaderboard.aggregate(scores)
    remarks = [
        card["remark"],
        f"Corpus `{card['root']}`, {scores['track'].nunique()} test tracks. BSSEval v4 as museval "
        f"has it, {leaderboard.AGGREGATION}.",
        METHOD_NOTES,
    ]
    page = leaderboard.to_markdown(
        table,
        targets,
        title="Leaderboard",
        remarks=[line for remark in remarks if remark for line in (remark, "")][:-1],
    )
    with work_folder("leaderboard") as work:
        out = work / "leaderboard"
        out.mkdir(exist_ok=True)
        (out / "leaderboard.md").write_text(page, encoding="utf-8")
        table.to_csv(out / "leaderboard.csv", index=False, float_format="%.4f")
        tracks = leaderboard.track_medians(scores)
        tracks.to_csv(out / "tracks.csv", index=False, float_format="%.4f")
        metrics = json.dumps(leaderboard.metrics(table, MODEL), indent=2)
        (out / "metrics.json").write_text(metrics + "\n", encoding="utf-8")
        publish(out, LEADERBOARD)
    print(page)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
