"""One leaderboard, from scores to all its files: page, tables, plots, metrics."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stemforge.errors import UserError
from stemforge.eval.leaderboard import page, published, tables
from stemforge.eval.leaderboard.about import ABOUT, About
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import (
    LEFT_OUT,
    MethodScores,
    Scoring,
    frame_table,
    whole_table,
)
from stemforge.features.corpus.musdb18 import TestSet
from stemforge.features.corpus.sources import scored_rest_of, targets_of

TITLE, PAGE = "Leaderboard", "leaderboard.md"
METHOD_NOTES = (
    "`UNPROCESSED` is the mixture as estimate: what no separation scores. `MIX` is the mixture "
    "divided by the number of stems. The ceilings know the truth: `IRM1` and `IRM2` are ideal "
    "ratio masks, `IBM1` and `IBM2` ideal binary ones, of magnitudes and of energies. These five "
    "are defined as in SiSEC 2018. `MWF` is a multichannel Wiener filter."
)


class Leaderboard:
    """All tables of a set of scores.

    Args:
        found: scores by method, all of the same tracks and frames (see
            eval.leaderboard.comparable).
        stems: of the corpus: columns of the table, with the rests of stems where they are scored.
        aggregation: how scores are averaged.
        how: how the tracks were scored.
        test_set: what the tracks are. SiSEC 2018's systems and published figures are ranked and
            tested with the others only on MUSDB18 itself, in 1 s frames, with museval's policy on
            silence and medians. On its excerpts, subsets and MUSDB18-HQ they are in a table of
            their own.
        context: "sisec18" for that table on any corpus, or None.

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
        test_set: TestSet,
        context: str | None,
    ) -> None:
        self.aggregation, self.test_set, self.how = aggregation, test_set, how
        self.without_flags = sorted(
            {method for method, track in found if track.frames.keys() - track.undetermined.keys()}
        )
        self.scores = frame_table(found)
        self.tracks = tables.track_table(self.scores, whole_table(found), frames=aggregation.frames)
        self._refuse_what_gives_no_table(found)
        scored = set(self.tracks["target"])
        self.targets = [target for target in targets_of(stems) if target in scored]
        self.single_stems = _single_stems(found, stems, scored)
        fits = published.fits(how, aggregation.frames)
        if context and not fits:
            raise UserError(
                f"{context}: its scores are medians over frames of 1 s: "
                "set frames=median, window_s=1, hop_s=1, nan_policy=museval and "
                "undetermined=keep"
            )
        self.joined = fits and test_set.is_musdb18
        self.apart = fits and not self.joined and bool(context or test_set.name)
        self._join_sisec18()
        self.table = self._make_table()

    def _refuse_what_gives_no_table(self, found: Sequence[MethodScores]) -> None:
        """Refuses scores of nothing, and a baseline without scores."""
        aggregation = self.aggregation
        methods = sorted(set(self.tracks["method"]))
        if self.tracks["SDR"].isna().all():
            if self.tracks["reason"].str.contains("perfect").any():
                raise UserError(
                    "no table: every estimate that could be scored equals its reference, so that "
                    "its SDR is infinite: score estimates that are not the true stems"
                )
            raise UserError("no track has a score: the table would be empty")
        if aggregation.baseline not in methods:
            reasons = {r.reason for m, s in found if m == aggregation.baseline for r in s.remarks}
            if reasons & LEFT_OUT:
                raise UserError(
                    f"baseline={aggregation.baseline}: all its tracks were left out, because its "
                    f"scores do not compare with those here ({', '.join(sorted(reasons))}, named "
                    f"above): choose another of {', '.join(methods)}"
                )
            raise UserError(
                f"baseline={aggregation.baseline}: unknown method; known: {', '.join(methods)}"
            )

    def _join_sisec18(self) -> None:
        """Adds SiSEC 2018's tracks where they are of this test set."""
        if self.joined:
            known = published.sisec18()
            known = known[known["target"].isin(self.targets)]
            self.tracks = pd.concat([self.tracks.assign(source=""), known], ignore_index=True)

    def _make_table(self) -> pd.DataFrame:
        """Rows of this test set, and of published scores beside or apart from them."""
        parts = [tables.aggregate(self.tracks, self.aggregation)]
        if self.joined and self.aggregation.tracks == "median":
            parts.append(tables.published_rows())
        if self.apart:
            parts.append(tables.context_rows(self.aggregation))
        table = pd.concat([part.astype(object) for part in parts], ignore_index=True)
        return table[table["target"].isin(self.targets)].infer_objects()

    def write(self, out: Path, *, introduction: Sequence[str], metrics_of: Sequence[str]) -> None:
        """Writes leaderboard.{md,csv,parquet,tex,json}, tracks.csv, metrics.json and boxplots/.

        Args:
            out: an existing folder.
            introduction: first paragraphs of the page; empty ones are left out.
            metrics_of: methods that metrics.json holds.
        """
        table, targets = self.table, self.targets
        about = self._about([text for text in introduction if text])
        text = page.to_markdown(
            table,
            targets,
            title=about.title,
            remarks=[*about.introduction, about.statement, *about.notes],
            apart=published.CAVEAT,
            problems=page.problem_rows(self.scores),
        )
        (out / PAGE).write_text(text, encoding="utf-8")
        (out / ABOUT).write_text(about.to_json(), encoding="utf-8")
        table.to_csv(out / "leaderboard.csv", index=False, float_format="%.4f")
        table.to_parquet(out / "leaderboard.parquet", index=False)
        latex = page.to_latex(table, targets, caption=f"{self._statement()} {self._legend()}")
        (out / "leaderboard.tex").write_text(latex, encoding="utf-8")
        self.tracks.to_csv(out / "tracks.csv", index=False, float_format="%.4f")
        metrics = tables.metrics(table, metrics_of)
        (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        boxes = out / "boxplots"
        boxes.mkdir(exist_ok=True)
        for target in targets:
            paths = [boxes / f"{target}.{ending}" for ending in ("svg", "png")]
            page.draw_boxes(self.tracks, target, paths)

    def _about(self, introduction: Sequence[str]) -> About:
        return About(
            title=TITLE,
            introduction=tuple(introduction),
            statement=self._statement(),
            notes=tuple(self._notes()),
            apart=published.CAVEAT if self.apart else "",
            targets=tuple(self.targets),
            aggregation=self.aggregation,
            window_s=self.how.window_s,
            hop_s=self.how.hop_s,
        )

    def summary(self, place: str) -> str:
        """The SDRs alone, for a console.

        Args:
            place: of the page with all the rest.
        """
        rest = "All metrics, intervals and tests"
        if self.apart:
            rest += ", and published scores of another test set"
        return page.to_console(
            self.table,
            self.targets,
            title=TITLE,
            remarks=[self._statement()],
            end=f"{rest}: {place}",
        )

    def _statement(self) -> str:
        """Which tracks and which averages: what a reader needs to compare two tables."""
        count = self.tracks.loc[self.tracks["frames"].notna(), "track"].nunique()
        tracks = f"{count} test track{'s' * (count != 1)}"
        if self.test_set.statement:
            tracks += f" ({self.test_set.statement})"
        statement = f"{tracks}. BSSEval v4 as in museval, {self.aggregation.statement}"
        if self.how.undetermined == "drop":
            statement += ", and ISR, SIR and SAR of undetermined frames too"
        return f"{statement}."

    def _legend(self) -> str:
        how = self.aggregation
        return (
            f"The best is bold, without oracles and mixture; * differs from {how.baseline} "
            f"(Wilcoxon's signed-rank test over tracks, p < {tables.SIGNIFICANCE_LEVEL} after "
            f"Holm's correction)."
        )

    def _notes(self) -> list[str]:
        notes = [
            f"{self._legend()} Intervals: {self.aggregation.confidence:.0%}, bootstrap over "
            "tracks. uSDR, SI-SDR and PES are of whole tracks, their means."
        ]
        if self.how.undetermined == "drop" and self.without_flags:
            notes.append(
                f"Files of {', '.join(self.without_flags)} do not say which frames are "
                "undetermined: ISR, SIR and SAR of all their frames count."
            )
        for method, stem, rest in self.single_stems:
            notes.append(
                f"{method}: {stem} against the rest ({rest}). It estimates one of the two; the "
                "other is the mixture minus the estimate. SIR and SAR are not comparable with "
                "those of methods that were scored with other targets."
            )
        if set(self.table["method"]) & set(METHODS):
            notes.append(METHOD_NOTES)
        if self.joined:
            notes.append(published.CAVEAT)
        return notes


def _single_stems(
    found: Sequence[MethodScores], stems: Sequence[str], scored: set[str]
) -> list[tuple[str, str, str]]:
    """Method, stem and rest of each method of one target, without oracles; sorted."""
    return sorted(
        {
            (method, stem, scored_rest_of(stem, stems, scored))
            for method, track in found
            if track.frames
            for stem in track.scoring.get("against_rest", ())
            if not tables.is_reference(method)
        }
    )
