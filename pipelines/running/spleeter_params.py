"""Spleeter's JSON configuration as params.yaml: what `stemforge import-config` does."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from stemforge.errors import UserError
from stemforge.pipelines.params import read_params
from stemforge.text import decode_text
from stemforge.train.spleeter.configuration import PRESET, read_json, training_parameters
from stemforge.unfinished import finishing


def import_config(config: Path, output: Path, *, data: str, base: Path) -> list[str]:
    """Writes a params.yaml that means what a Spleeter configuration says.

    Parameters that a configuration does not mention stay as in `base`, comments included.

    Args:
        config: Spleeter's JSON file.
        output: a new params.yaml.
        data: folder that the audio paths of the CSV files are relative to, as `-d` of
            `spleeter train`.
        base: a params.yaml.

    Returns:
        A remark for each key of the configuration that changes nothing here.

    Raises:
        UserError: a file is unreadable or in the way, or a key or value is not supported.
    """
    if output.exists():
        raise UserError(f"{output}: already exists: choose another --output, or remove it")
    read_params(base)
    values = read_json(config)
    try:
        sections, remarks = training_parameters(values)
    except UserError as error:
        raise UserError(f"{config}: {error}") from None
    corpus = sections["corpus"]
    for name in ("train_csv", "validation_csv"):  # ours start at the root, Spleeter's here
        csv = Path(corpus[name]).resolve()
        corpus[name] = str(csv) if Path(data).is_absolute() else os.path.relpath(csv, data)
    corpus |= {"root": data, "test_csv": None}
    given = sections["train"]
    sections["train"] = {**PRESET, **given, "preset": None, "init_from": None}
    yaml = YAML()
    yaml.representer.add_representer(type(None), _represent_null)
    params = yaml.load(decode_text(base.read_bytes()))
    for name in params["train"]["net"].keys() - sections["train"]["net"].keys():
        del params["train"]["net"][name]  # of another kind of net
    _set(params, sections)
    with finishing(output) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        try:
            read_params(temporary)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), str(config))) from None
    return remarks


def _set(section: Any, values: Mapping[str, Any]) -> None:
    """Sets values in place, inside of sections too, which keeps comments."""
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(section.get(name), dict):
            _set(section[name], value)
            continue
        if isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()  # a block would clash with the line's comment
        section[name] = value


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")  # not an empty value
