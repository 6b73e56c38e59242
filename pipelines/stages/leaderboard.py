"""Stage leaderboard: scores/ and comparisons/ -> leaderboard/ (tables, page, plots, metrics)."""

import json
from collections.abc import Mapping, Sequence

from stemforge.errors import UserError
from stemforge.eval.config import MODEL
from stemforge.eval.leaderboard.board import PAGE, Leaderboard
from stemforge.eval.leaderboard.comparable import count_frames, keep_comparable
from stemforge.eval.leaderboard.tables import Aggregation
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.scores import Scoring
from stemforge.features.corpus.manifest import Track, read_manifest
from stemforge.features.corpus.musdb18 import (
    TestSet,
    are_wavs,
    recognise_test_set,
    with_stems,
)
from stemforge.features.corpus.sources import parts_of
from stemforge.pipelines.console import run_main
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
    how = Scoring(**params.evaluate.model_dump(exclude={"strict"}))
    tracks = manifest.split("test")
    page = LEADERBOARD / PAGE
    found = score_files.read_scores(str(SCORES), [MODEL, *METHODS])
    found += read_comparisons(
        tracks, how, stems=manifest.stems, taken=[MODEL, *METHODS], where=str(page)
    )
    table = Leaderboard(
        found,
        stems=manifest.stems,
        aggregation=Aggregation(**config.model_dump(exclude={"context"})),
        how=how,
        test_set=recognise(tracks, parts_of(manifest.stems, params.corpus.mapping)),
        context=config.context,
    )
    introduction = [card["remark"], f"Corpus `{card['root']}`."]
    with work_folder("leaderboard") as work:
        out = work / "leaderboard"
        out.mkdir(exist_ok=True)
        table.write(out, introduction=introduction, metrics_of=[MODEL])
        ours = table.table[table.table["method"] == MODEL]  # for `dvc plots`
        columns = ["target", "SDR", "SDR_low", "SDR_high"]
        ours[columns].to_csv(out / f"{MODEL}.csv", index=False, float_format="%.4f")
        publish(out, LEADERBOARD)
    print(table.summary(str(page)))


def recognise(tracks: Sequence[Track], parts: Mapping[str, Sequence[str]]) -> TestSet:
    """What these test tracks are, by names, lengths, kind of file and stems."""
    wavs = are_wavs([source.file_sha256 for source in track.sources] for track in tracks)
    test_set = recognise_test_set({track.name: track.duration_s for track in tracks}, wavs=wavs)
    return with_stems(test_set, parts)


def read_comparisons(
    tracks: Sequence[Track],
    how: Scoring,
    *,
    stems: Sequence[str],
    taken: Sequence[str],
    where: str,
) -> score_files.Scores:
    """Others' scores, as `stemforge import-scores` brings them in, on these tracks.

    Args:
        tracks: the test tracks.
        how: how ours were scored; scores of other frames are left out and named.
        stems: of the corpus.
        taken: names that are ours.
        where: all remarks will be.

    Raises:
        UserError: a method has the name of one of ours.
    """
    methods = score_files.read_methods(str(COMPARISONS))
    if clash := set(methods) & set(taken):
        raise UserError(f"{COMPARISONS}/{min(clash)}: this name is reserved: rename the folder")
    found = score_files.read_scores(str(COMPARISONS), methods)
    frames: dict[str, int | None] = {
        track.name: count_frames(track.samples, track.sample_rate_hz, how) for track in tracks
    }
    compared = keep_comparable(found, frames, how, stems=stems)
    score_files.say_policies(compared, how, label="leaderboard")
    score_files.say_remarks(compared, label="leaderboard", where=where)
    return compared


if __name__ == "__main__":
    raise SystemExit(run_main(main))
