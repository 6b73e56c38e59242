"""What model hubs read of a release: the YAML in front of its README.md."""

import io
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

TASK = "audio-to-audio"  # as hubs name it
TAGS = ("audio", "music", "source-separation", "tensorflow", "tflite")


def front_matter(record: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """The values that hubs filter and list models by.

    There is no list of data sets: it would have to hold names on a hub, and a corpus here is a
    folder.

    Args:
        record: the release's provenance.
        scores: our own models' of leaderboard/metrics.json: metrics by stem. A stem without an SDR
            is left out.

    Returns:
        In the form of Hugging Face's model cards; "model-index" is missing without any SDR.
    """
    parameters = record["parameters"]
    how = parameters["leaderboard"]
    name = corpus_name(record)
    values: dict[str, Any] = {
        "license": parameters["release"]["license"].lower(),  # hubs' names are SPDX's in lower case
        "library_name": "stemforge",
        "pipeline_tag": TASK,
        "tags": [*TAGS],
    }
    metrics = [
        {
            "type": "sdr",
            "name": f"SDR of {stem} in dB, BSSEval v4 ({how['frames']} of a track's frames, "
            f"{how['tracks']} of tracks)",
            "value": measured["SDR"],
        }
        for stem in record["corpus"]["stems"]
        if (measured := scores.get(stem, {})).get("SDR") is not None
    ]
    if metrics:
        result = {
            "task": {"type": TASK, "name": "Music source separation"},
            "dataset": {"type": name, "name": name, "split": "test"},
            "metrics": metrics,
        }
        values["model-index"] = [{"name": record["name"], "results": [result]}]
    return values


def corpus_name(record: Mapping[str, Any]) -> str:
    """The corpus' name: its folder's; the folder's place is nobody else's business."""
    return PurePosixPath(record["corpus"]["root"]).name or str(record["name"])


def to_yaml(value: Any) -> str:
    r"""YAML that readers of version 1.1 and 1.2 take for the same values.

    Every string is in double quotes: without, version 1.1 reads `on` as true and `1:30` as 90. Line
    breaks and what is not printable are escaped, so that no string can end the block.

    Args:
        value: dicts, lists, strings and numbers.

    Returns:
        Lines, or without a line break a single string's text.
    """
    yaml = YAML()
    yaml.width = 2**31  # one line for each string: a folded one is harder to read
    stream = io.StringIO()
    yaml.dump(_quoted(value), stream)
    return stream.getvalue().removesuffix("\n")


def _quoted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _quoted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_quoted(inner) for inner in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value
