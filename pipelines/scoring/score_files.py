"""A folder of scores: METHOD/test/TRACK.json, METHOD/unscored/TRACK.json, and tables of all.

The JSON is museval's. If no target of a track could be scored, its JSON is in unscored/ and says
why. All tables are made from these files.
"""

import io
from collections.abc import Iterable

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.scoring import scores
from stemforge.eval.scoring.scores import MethodScores, Remark, Scoring, TrackScores
from stemforge.pipelines.console import say

SCORED, UNSCORED = "test", "unscored"
SHOWN = 4  # remarks of one kind on the console
Scores = list[MethodScores]


def scores_place(out: str, method: str, kind: str, track: str) -> str:
    """Place of a track's JSON in a folder of scores; kind is SCORED or UNSCORED."""
    return storage.join(out, method, kind, f"{storage.comparable(track)}.json")


def write_scores(
    out: str, method: str, found: TrackScores, *, scoring: Scoring, inputs: str
) -> None:
    """Writes a track's JSON into a folder of scores, and removes what it replaces."""
    text = scores.to_json(found, scoring=scoring, inputs=inputs)
    kinds = (SCORED, UNSCORED) if found.frames else (UNSCORED, SCORED)
    new, old = (scores_place(out, method, kind, found.track) for kind in kinds)
    storage.write_bytes(new, text.encode())
    storage.remove(old)


def read_inputs(out: str, method: str, track: str) -> str | None:
    """The checksum of the inputs of a track's scores; None where it has no scores of ours.

    A track that could not be scored has none: the cause, such as a full disk, may no longer exist.
    """
    place = scores_place(out, method, SCORED, track)
    return scores.read_inputs(storage.read_bytes(place)) if storage.size(place) else None


def list_scores(folder: str) -> list[tuple[str, str]]:
    """Method and place below the folder of each track's file, sorted by place."""
    names = [(name.split("/"), name) for name in storage.list_files(folder)]
    return [
        (storage.comparable(p[0]), name)
        for p, name in names
        if len(p) == 3 and p[1] in (SCORED, UNSCORED) and p[2].endswith(".json")
    ]


def track_of(place: str) -> str:
    """The track that a file of scores is of."""
    return storage.comparable(storage.name(place).removesuffix(".json"))


def read_methods(folder: str) -> list[str]:
    """Names of the methods in a folder of scores, sorted; none where the folder is missing."""
    if not storage.is_folder(folder):
        return []
    return sorted({method for method, _ in list_scores(folder)})


def read_scores(folder: str, methods: Iterable[str]) -> Scores:
    """Reads a folder of scores, by method and track.

    Args:
        folder: of scores.
        methods: names of the wanted methods.

    Returns:
        Method and scores of each track; a broken JSON file becomes a remark.

    Raises:
        UserError: a track has two files of scores.
    """
    wanted = set(methods)
    found = []
    places: dict[tuple[str, str], str] = {}
    for method, name in list_scores(folder):
        if method not in wanted:
            continue
        track = track_of(name)
        other = places.setdefault((method, track), name)
        if other != name:
            if _kind(other) == SCORED and _kind(name) == UNSCORED:
                continue  # left by a run that was killed while it replaced it
            raise UserError(f"{folder}: both {other} and {name} are of one track: remove one")
        try:
            track_scores = scores.from_json(track, storage.read_bytes(storage.join(folder, name)))
        except ValueError as error:
            remark = Remark("", "not_scored", f"{name}: {error}")
            track_scores = TrackScores(track, {}, remarks=(remark,))
        found.append((method, track_scores))
    return found


def _kind(place: str) -> str:
    return storage.name(storage.parent(place))


def write_tables(out: str, found: Scores) -> None:
    """Writes scores.parquet (frames) and whole.parquet (whole tracks) into a folder of scores."""
    for name, table in (
        (scores.FRAME_TABLE, scores.frame_table(found)),
        (scores.WHOLE_TABLE, scores.whole_table(found)),
    ):
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        storage.write_bytes(storage.join(out, name), buffer.getvalue())


def say_policies(found: Scores, how: Scoring, *, label: str) -> None:
    """Prints which methods were scored with another policy on frames than the current one."""
    for name in ("nan_policy", "undetermined"):
        wanted = getattr(how, name)
        other = {(method, s.scoring[name]) for method, s in found if name in s.scoring}
        for method, value in sorted(other):
            if value != wanted:
                say(f"{label}: {method}: scored with {name}={value}, not {wanted}: do not compare")


def say_remarks(found: Scores, *, label: str, where: str | None) -> int:
    """Prints the remarks on tracks and targets: a few of each kind, and how many more there are.

    Args:
        found: scores by method and track.
        label: at the start of each line.
        where: all of them can be read; None: nowhere else, so all are printed.

    Returns:
        Number of remarks on problems that the estimates' author can correct.
    """
    kinds: dict[str, dict[str, list[str]]] = {}
    count = 0
    for method, track_scores in found:
        for remark in track_scores.remarks:
            what = f"{track_scores.track}: {remark.target}".removesuffix(": ")
            line = f"{what}: {remark.reason}: {remark.detail}"
            kinds.setdefault(remark.reason, {}).setdefault(line, []).append(method)
            count += remark.reason not in scores.HARMLESS
    for reason, lines in kinds.items():
        shown = len(lines) if where is None else SHOWN
        for line, methods in [*lines.items()][:shown]:
            who = methods[0] if len(methods) == 1 else f"{len(methods)} methods"
            say(f"{label}: {who}: {line}")
        if len(lines) > shown:
            say(f"{label}: {reason}: and {len(lines) - shown} more, in {where}")
    return count
