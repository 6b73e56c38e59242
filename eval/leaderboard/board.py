"""One leaderboard, from scores to all its files: page, tables, plots, metrics."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stemforge.errors import UserError
from stemforge.eval.leaderboard import page, published, tables
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import MethodScores, Scoring, frame_table, whole_table
from stemforge.features.corpus.sources import ACCOMPANIMENT

METHOD_NOTES = (
    "`MIX` is the unprocessed mixture as estimate, the floor. The ceilings know the truth: `IRM1` "
    "and `IRM2` are ideal ratio masks, `IBM1` and `IBM2` ideal binary ones, of magnitudes and of "
    "energies, `MWF` is a multichannel Wiener filter; all as in SiSEC 2018."
)


class Leaderboard:
    """All tables of a set of scores.

    Args:
        found: scores by method.
        stems: of the corpus: columns of the table, with the accompaniment where it is scored.
        aggregation: how scores are averaged.
        how: how the tracks were scored; SiSEC 2018's figures fit only 1 s frames and medians.
        context: "sisec18" to list SiSEC 2018's systems as another test set, or None. Where the
            tracks are MUSDB18's test set, the systems are listed beside the others anyway.

    Raises:
        UserError: nothing was scored, an unknown baseline, or a context that does not fit.
    """

    def __init__(
        self,
        found: Sequence[MethodScores],
        *,
        stems: Sequence[str],
        aggregation: Aggregation,
        how: Scoring,
        context: str | None,
    ) -> None:
        self.aggregation = aggregation
        self.scores = frame_table(found)
        self.tracks = tables.track_table(self.scores, whole_table(found), frames=aggregation.frames)
        methods = sorted(set(self.tracks["method"]))
        if self.tracks["SDR"].isna().all():
            if self.tracks["reason"].str.contains("perfect").any():
                raise UserError(
                    "no table: every estimate that could be scored equals its reference, so that "
                    "its SDR is infinite: score estimates that are not the true stems"
                )
            raise UserError("no track has a score: the table would be empty")
        if aggregation.baseline not in methods:
            raise UserError(
                f"baseline={aggregation.baseline}: unknown method; known: {', '.join(methods)}"
            )
        order = dict.fromkeys((*stems, ACCOMPANIMENT))
        self.targets = [target for target in order if target in set(self.tracks["target"])]
        self.joined = published.is_musdb18(self.tracks["track"])
        fits = how.window_s == how.hop_s == 1.0 and aggregation.frames == "median"
        if context and not self.joined and not fits:
            raise UserError(
                f"{context}: its scores are medians over frames of 1 s: "
                "set frames=median, window_s=1 and hop_s=1"
            )
        self.joined &= fits
        if self.joined:
            known = published.sisec18()
            known = known[known["target"].isin(self.targets)]
            self.tracks = pd.concat([self.tracks.assign(source=""), known], ignore_index=True)
        table = tables.aggregate(self.tracks, aggregation)
        self.context = bool(context) and not self.joined
        parts = [table]
        if self.joined:
            parts.append(tables.published_rows())
        if self.context:
            systems = dataclasses.replace(aggregation, baseline="")
            parts.append(tables.context_rows(systems))
        table = pd.concat([part.astype(object) for part in parts], ignore_index=True)
        self.table = table[table["target"].isin(self.targets)].infer_objects()

    def write(self, out: Path, *, introduction: Sequence[str], metrics_of: Sequence[str]) -> str:
        """Writes leaderboard.md, .csv, .parquet and .tex, tracks.csv, metrics.json, boxplots/.

        Args:
            out: an existing folder.
            introduction: first paragraphs of the page; empty ones are left out.
            metrics_of: methods that metrics.json holds.

        Returns:
            The page.
        """
        table, targets = self.table, self.targets
        title = "Leaderboard"
        text = page.to_markdown(
            table,
            targets,
            title=title,
            remarks=[text for text in (*introduction, *self._notes()) if text],
            problems=page.problem_rows(self.scores),
        )
        (out / "leaderboard.md").write_text(text, encoding="utf-8")
        table.to_csv(out / "leaderboard.csv", index=False, float_format="%.4f")
        table.to_parquet(out / "leaderboard.parquet", index=False)
        latex = page.to_latex(table, targets, caption=" ".join(self._notes()[:1]))
        (out / "leaderboard.tex").write_text(latex, encoding="utf-8")
        self.tracks.to_csv(out / "tracks.csv", index=False, float_format="%.4f")
        metrics = tables.metrics(table, metrics_of)
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        boxes = out / "boxplots"
        boxes.mkdir(exist_ok=True)
        for target in targets:
            paths = [boxes / f"{target}.{ending}" for ending in ("svg", "png")]
            page.draw_boxes(self.tracks, target, paths)
        return text

    def _notes(self) -> list[str]:
        how = self.aggregation
        ours = self.tracks[self.tracks["frames"].notna()]
        level = tables.SIGNIFICANCE_LEVEL
        notes = [
            f"{ours['track'].nunique()} test tracks. BSSEval v4, the same numbers as museval's, "
            f"{how.statement}. The best is bold, without oracles and mixture; * differs from "
            f"{how.baseline} (Wilcoxon's signed-rank test over tracks, p < {level} after Holm's "
            f"correction). Intervals: {how.confidence:.0%}, bootstrap over tracks. uSDR, SI-SDR "
            "and PES are of whole tracks, their means."
        ]
        if set(self.table["method"]) & set(METHODS):
            notes.append(METHOD_NOTES)
        if self.joined or self.context:
            notes.append(published.CAVEAT)
        if self.context:
            notes.append(
                f"**Methods marked {published.TEST_SET} were scored on another test set**: "
                "context, not competitors."
            )
        return notes
