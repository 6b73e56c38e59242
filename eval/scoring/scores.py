"""Scores of a track, museval's JSON of them, and the tables that hold them."""

import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from importlib import resources
from typing import Any, Literal, get_args

import jsonschema
import numpy as np
import pandas as pd

from stemforge import storage
from stemforge.eval.config import NanPolicy, Undetermined
from stemforge.eval.scoring import bss_eval as bss
from stemforge.eval.scoring.track_metrics import predicted_energy_at_silence, si_sdr, utterance_sdr
from stemforge.features.corpus.sources import ACCOMPANIMENT, mixture_without, rest_of
from stemforge.features.signal.stft import Waveform
from stemforge.text import parse_json, show

METRICS = ("SDR", "SIR", "ISR", "SAR")  # a value a frame
MUSEVAL_VERSION = "0.4.1"  # whose numbers and JSON ours equal
MUSEVAL_ORDER = ("SDR", "SIR", "SAR", "ISR")  # in its JSON
TRACK_METRICS = ("uSDR", "SI_SDR", "PES")  # a value a track: eval.scoring.track_metrics
FRAME_COLUMNS = (
    *("method", "track", "target", "frame", *METRICS, "undetermined", "reason", "note"),
)
FRAME_TABLE, WHOLE_TABLE = "scores.parquet", "whole.parquet"  # in a folder of scores
OURS = "stemforge"  # key in the JSON of everything that museval's format cannot hold

# Why a target or a whole track is not scored, or scored only after a change. The maker of an
# estimate can correct all of these but those in HARMLESS.
Reason = Literal[
    "silent_reference",  # there is nothing to separate
    "silent_estimate",
    "missing",  # the method estimates it for other tracks
    "too_few",  # one estimate of a method that has several, or a rest without its stem
    "unknown_track",  # no such test track in the corpus
    "ambiguous",  # two files for one estimate
    "not_audio",
    "damaged",  # scored as far as it can be read
    "sample_rate",
    "channels",
    "non_finite",  # samples of an estimate, or scores in others' files
    "not_scored",  # the track's references cannot be read, or its JSON is broken
    "mono",  # scored with both channels equal
    "perfect",  # equals its reference: the SDR is infinite, and no average can hold it
    "padded",  # scored with zeros at its end, as museval does
    "cut",  # scored without its end, as museval does
    "other_test_set",  # others' scores, of other frames, stems or another song
    "outdated",  # scores of an earlier version, which defined the method in another way
]
LEFT_OUT = frozenset({"other_test_set", "outdated"})  # of the leaderboard
HARMLESS = frozenset({"silent_reference", "perfect"}) | LEFT_OUT


@dataclass(frozen=True)
class Scoring:
    """How tracks are scored.

    Attributes:
        window_s: length of a scored frame.
        hop_s: distance between the starts of scored frames.
        nan_policy: see eval.scoring.bss_eval.bss_eval.
        accompaniment: also score all but the vocals, where there is no estimate of it: the rest
            of the vocals (features.corpus.sources.mixture_without).
        against_rest: stems that are scored as a pair with the rest of the mixture. For a method
            of one target, its stem: the estimate of the rest is the mixture minus the method's.
            For oracles, the stems of such methods: their estimate of the rest is the sum of the
            other estimates, or, where the stems are not all of the mixture, the mixture minus
            the stem's.
        undetermined: whether ISR, SIR and SAR that rounding decides are kept, as museval does, or
            dropped; see eval.scoring.bss_eval.BssEval.
    """

    window_s: float
    hop_s: float
    nan_policy: NanPolicy
    accompaniment: bool
    against_rest: tuple[str, ...] = ()
    undetermined: Undetermined = "keep"


MUSEVAL = Scoring(window_s=1.0, hop_s=1.0, nan_policy="museval", accompaniment=False)


@dataclass(frozen=True)
class Remark:
    """Why a target has no score, or how its estimate was changed before.

    Attributes:
        target: its name; empty for a whole track.
        reason: one word.
        detail: what a user needs to find the cause.
    """

    target: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class TrackScores:
    """Scores of one track by one method.

    Attributes:
        track: its name.
        frames: per target and metric in dB, a value a frame.
        whole: per target and metric, one number: TRACK_METRICS.
        remarks: see Remark.
        undetermined: per target whether rounding decides ISR, SIR and SAR, a value a frame; see
            eval.scoring.bss_eval.BssEval. Targets of files that do not say so are left out.
        scoring: how they were computed, where that is known: Scoring's fields.
    """

    track: str
    frames: Mapping[str, Mapping[str, Sequence[float]]]
    whole: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    undetermined: Mapping[str, Sequence[bool]] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)


MethodScores = tuple[str, TrackScores]  # with the method's name


def score_track(
    track: str,
    references: Mapping[str, Waveform],
    estimates: Mapping[str, Waveform],
    *,
    sample_rate_hz: int,
    scoring: Scoring = MUSEVAL,
    mixture: Waveform | None = None,
    remarks: Iterable[Remark] = (),
    workers: int | None = None,
) -> TrackScores:
    """Scores a track as museval.eval_mus_track does.

    All targets are scored together, except the accompaniment. Where there is one, it and the vocals
    are scored as a separate pair, and the vocals' scores come from that pair. The same holds for
    the rest of any other stem (features.corpus.sources.rest_of); a rest without its stem is left
    out. A target whose reference or estimate is silent throughout has no scores; museval refuses
    such a track.

    Args:
        track: its name.
        references: true stems, float32 [samples, channels].
        estimates: of some or all of them, and of their rests, the same shape.
        sample_rate_hz: of both.
        scoring: frames, policy, pairs; museval's own unless given.
        mixture: if it holds more than the true stems, the same shape; None: they are all of it.
        remarks: problems of the estimates that are already known.
        workers: threads to use; None: as many as there are cores.

    Returns:
        The scores, with a remark for each target that has none. Fewer than two targets
        cannot be scored.
    """
    stems = tuple(references)
    rests = {s: rest_of(s, stems, complete=mixture is None) for s in stems if len(stems) > 1}
    references, estimates = _with_rests(references, estimates, scoring, rests, mixture)
    alone = _rests_alone(rests, estimates)
    targets = [target for target in references if target in estimates and target not in alone]
    notes = [*remarks, *alone.values(), *_extremes(targets, references, estimates)]
    if len(targets) < 2:
        detail = "BSSEval compares two targets at least; the method's others are missing"
        notes += [Remark(target, "too_few", detail) for target in targets]
        return TrackScores(track, {}, {}, tuple(notes))
    silent = {note.target for note in notes if note.reason.startswith("silent_")}
    # Cut to whole samples, as museval does.
    window, hop = (int(s * sample_rate_hz) for s in (scoring.window_s, scoring.hop_s))
    frames: dict[str, dict[str, list[float]]] = {}
    undetermined: dict[str, list[bool]] = {}
    for group in _groups(targets, rests):
        found = bss.bss_eval(
            [references[target] for target in group],
            [estimates[target] for target in group],
            window=window,
            hop=hop,
            nan_policy=scoring.nan_policy,
            workers=workers,
        )
        values = {"SDR": found.sdr, "SIR": found.sir, "ISR": found.isr, "SAR": found.sar}
        if scoring.undetermined == "drop":
            for metric in ("ISR", "SIR", "SAR"):
                values[metric][found.undetermined] = math.nan
        for row, target in enumerate(group):
            if target not in silent:
                frames.pop(target, None)  # the pair's come last, as in museval's JSON
                frames[target] = {m: values[m][row].tolist() for m in METRICS}
                undetermined[target] = found.undetermined[row].tolist()
    parts = bss.frames(len(references[targets[0]]), window=window, hop=hop)
    whole = {
        target: {
            "uSDR": utterance_sdr(references[target], estimates[target]),
            "SI_SDR": si_sdr(references[target], estimates[target]),
            "PES": predicted_energy_at_silence(references[target], estimates[target], parts),
        }
        for target in targets
    }
    return TrackScores(track, frames, whole, tuple(notes), undetermined)


def _extremes(
    targets: Sequence[str], references: Mapping[str, Waveform], estimates: Mapping[str, Waveform]
) -> Iterator[Remark]:
    """Remarks on silent targets, which have no score, and perfect ones, whose SDR is infinite."""
    for target in targets:
        if bss.is_silent(references[target]):
            yield Remark(target, "silent_reference", "its reference is silent")
        elif bss.is_silent(estimates[target]):
            yield Remark(target, "silent_estimate", "its estimate is silent")
        elif np.array_equal(references[target], estimates[target]):
            detail = "its estimate equals its reference: SDR is infinite, and left out of averages"
            yield Remark(target, "perfect", detail)


def _with_rests(
    references: Mapping[str, Waveform],
    estimates: Mapping[str, Waveform],
    scoring: Scoring,
    rests: Mapping[str, str],
    mixture: Waveform | None,
) -> tuple[Mapping[str, Waveform], Mapping[str, Waveform]]:
    """Adds the true rest of each stem that needs it, and the estimated one where it is wanted."""
    whole = set(estimates) >= set(references)
    own = {name: waveform for name, waveform in estimates.items() if name in references}
    truth, found = dict(references), dict(estimates)
    for stem, rest in rests.items():
        paired = scoring.accompaniment and rest == ACCOMPANIMENT
        if rest not in found and whole and (paired or stem in scoring.against_rest):
            found[rest] = mixture_without(stem, own, mixture)
        if rest in found and rest not in truth:
            truth[rest] = mixture_without(stem, references, mixture)
    return truth, found


def _rests_alone(rests: Mapping[str, str], estimates: Mapping[str, Waveform]) -> dict[str, Remark]:
    """Rests that would be scored with stems that they contain, and what is said of them."""
    return {
        rest: Remark(
            rest,
            "too_few",
            f"scored only as a pair with {stem}, which has no estimate: add it, or score {rest} "
            "alone, as a method of one target",
        )
        for stem, rest in rests.items()
        if rest in estimates and rest not in rests and stem not in estimates
    }


def _groups(targets: Sequence[str], rests: Mapping[str, str]) -> list[list[str]]:
    """Targets that are scored together, two or more."""
    pairs: list[list[str]] = []
    for stem, rest in rests.items():
        if {stem, rest} <= {*targets} and [rest, stem] not in pairs:
            pairs.append([stem, rest])
    second = {rest for _, rest in pairs}
    together = [target for target in targets if target not in second]
    return [together, *pairs] if len(together) > 1 or not pairs else pairs


def to_json(scores: TrackScores, *, scoring: Scoring, inputs: str) -> str:
    """A track's scores in museval's own JSON, which its EvalStore loads.

    Everything that museval's format cannot hold is under "stemforge", which museval ignores.

    Args:
        scores: of the track.
        scoring: how they were computed.
        inputs: a checksum of the files they were computed from.
    """
    data: dict[str, Any] = {
        "targets": [
            {"name": target, "frames": _frames(metrics, scoring)}
            for target, metrics in scores.frames.items()
        ],
        "museval_version": MUSEVAL_VERSION,
    }
    data[OURS] = {
        "inputs": inputs,
        "scoring": asdict(scoring),
        "whole": {
            target: {name: round(_finite(value), 5) for name, value in values.items()}
            for target, values in scores.whole.items()
        },
        "remarks": [asdict(remark) for remark in scores.remarks],
        "undetermined": {  # numbers of frames
            target: [number for number, is_so in enumerate(values) if is_so]
            for target, values in scores.undetermined.items()
        },
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _frames(metrics: Mapping[str, Sequence[float]], scoring: Scoring) -> list[dict[str, Any]]:
    return [
        {
            "time": number * scoring.hop_s,
            "duration": scoring.window_s,
            "metrics": {name: _rounded(metrics[name][number]) for name in MUSEVAL_ORDER},
        }
        for number in range(len(metrics[MUSEVAL_ORDER[0]]))
    ]


def _rounded(value: float) -> float:
    """As museval writes a score: five decimals, half to even; an infinite value becomes NaN."""
    return float(Decimal(_finite(value)).quantize(Decimal("0.00001")))


def _finite(value: float) -> float:
    """NaN for an infinite value: of no average, and no competitor."""
    return math.nan if math.isinf(value) else value


def read_inputs(data: bytes) -> str | None:
    """The checksum that `to_json` was given; None where stemforge did not write the file."""
    try:
        return str(parse_json(data)[OURS]["inputs"])
    except (ValueError, KeyError, TypeError):
        return None


def from_json(track: str, file: bytes) -> TrackScores:
    """Scores from museval's JSON, written by stemforge, museval or another program.

    An infinite score becomes NaN, as in museval's own files, with a remark.

    Args:
        track: its name, which museval's JSON does not hold.
        file: its contents.

    Raises:
        ValueError: not JSON, or not of museval's schema; the message is one line.
    """
    data = parse_json(file)
    try:
        jsonschema.validate(data, _schema())
        infinite: list[Remark] = []
        frames: dict[str, dict[str, list[float]]] = {}
        for target in data["targets"]:
            name = storage.comparable(target["name"])
            if name in frames:
                raise ValueError(f"not museval's: two targets are named {show(name)}")
            values = {m: [float(f["metrics"][m]) for f in target["frames"]] for m in METRICS}
            frames[name] = {m: [*map(_finite, values[m])] for m in METRICS}
            if bad := sum(map(math.isinf, itertools.chain(*values.values()))):
                detail = f"{bad} infinite scores, left out as museval does"
                infinite.append(Remark(name, "non_finite", detail))
        ours = data.get(OURS, {})
        jsonschema.validate(ours, _OUR_SCHEMA)
        whole = {
            storage.comparable(target): {name: _finite(float(v)) for name, v in values.items()}
            for target, values in ours.get("whole", {}).items()
        }
        remarks = tuple(Remark(**remark) for remark in ours.get("remarks", ()))
        return TrackScores(
            track,
            frames,
            whole,
            (*remarks, *infinite),
            _undetermined(frames, ours.get("undetermined", {})),
            ours.get("scoring") or _grid(data["targets"]),
        )
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        found, wanted = show(error.instance), f"{error.validator}: {show(error.validator_value)}"
        raise ValueError(f"not museval's: {where}: {found} is not {wanted}") from None
    except KeyError as error:
        raise ValueError(f"not museval's: no {error} in it") from None
    except OverflowError:
        raise ValueError("not museval's: a score is too large") from None


def _grid(targets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Window and hop of another program's file, as far as its frames say them."""
    found: dict[str, float] = {}
    frames: list[Any] = next((target["frames"] for target in targets if target["frames"]), [])
    if frames and "duration" in frames[0]:
        found["window_s"] = float(frames[0]["duration"])
    if len(frames) > 1 and "time" in frames[0] and "time" in frames[1]:
        found["hop_s"] = float(frames[1]["time"]) - float(frames[0]["time"])
    return found


def _undetermined(
    frames: Mapping[str, Mapping[str, Sequence[float]]], written: Mapping[str, Sequence[int]]
) -> dict[str, list[bool]]:
    """A value a frame from the numbers of frames in a file."""
    numbers = {storage.comparable(target): {*values} for target, values in written.items()}
    return {
        target: [number in numbers[target] for number in range(len(metrics[METRICS[0]]))]
        for target, metrics in frames.items()
        if target in numbers
    }


# Of what `to_json` adds; another program may leave out any of it.
_NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}
_OUR_SCHEMA = {
    "type": "object",
    "properties": {
        "whole": {"type": "object", "additionalProperties": _NUMBERS},
        "remarks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "target": {"type": "string"},
                    "reason": {"enum": [*get_args(Reason)]},
                    "detail": {"type": "string"},
                },
                "required": ["target", "reason", "detail"],
                "additionalProperties": False,
            },
        },
        "undetermined": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        },
        "scoring": {
            "type": "object",
            "properties": {
                "window_s": {"type": "number"},
                "hop_s": {"type": "number"},
                "nan_policy": {"enum": [*get_args(NanPolicy)]},
                "accompaniment": {"type": "boolean"},
                "against_rest": {"type": "array", "items": {"type": "string"}},
                "undetermined": {"enum": [*get_args(Undetermined)]},
            },
            "additionalProperties": False,
        },
    },
}


@functools.cache
def _schema() -> Any:
    """Museval's own schema of its JSON (its musdb.schema.json)."""
    text = resources.files("stemforge.eval.scoring").joinpath("museval.schema.json").read_text()
    return json.loads(text)


def frame_table(found: Iterable[MethodScores]) -> pd.DataFrame:
    """The table scores.parquet: a row a method, track, target and frame, sorted."""
    rows = [row for method, scores in found for row in _frame_rows(method, scores)]
    table = pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
    table["undetermined"] = table["undetermined"].astype("boolean")  # missing: not known
    return table.sort_values(["method", "track", "target", "frame"], ignore_index=True)


def _frame_rows(method: str, scores: TrackScores) -> list[dict[str, Any]]:
    """One a target and frame, NaN for a target without scores."""
    empty = dict.fromkeys(METRICS, math.nan) | {"undetermined": None}
    rows: list[dict[str, Any]] = []
    targets = dict.fromkeys([*scores.frames, *(remark.target for remark in scores.remarks)])
    for target in targets:
        mine = [remark for remark in scores.remarks if remark.target == target]
        labels = {
            "method": method,
            "track": scores.track,
            "target": target,
            "reason": ",".join(remark.reason for remark in mine),
            "note": "; ".join(remark.detail for remark in mine),
        }
        metrics = scores.frames.get(target, {})
        values = list(zip(*(metrics[m] for m in METRICS), strict=True)) if metrics else []
        noted = scores.undetermined.get(target, [None] * len(values))
        for frame, (numbers, is_so) in enumerate(zip(values, noted, strict=True)):
            place = labels | {"frame": frame, "undetermined": is_so}
            rows.append(place | dict(zip(METRICS, numbers, strict=True)))
        if not values:
            rows.append(labels | {"frame": 0} | empty)
    return rows


def whole_table(found: Iterable[MethodScores]) -> pd.DataFrame:
    """Whole-track metrics: method, track, target and TRACK_METRICS, sorted."""
    rows = [
        {"method": method, "track": scores.track, "target": target} | dict(values)
        for method, scores in found
        for target, values in scores.whole.items()
    ]
    table = pd.DataFrame(rows, columns=["method", "track", "target", *TRACK_METRICS])
    return table.sort_values(["method", "track", "target"], ignore_index=True)
