"""Command-line options that several commands have."""

import re
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import UserError

# How a URL begins that has lost a slash: as a path it would make a folder called "gs:". A scheme
# has two letters or more: C:/ is a drive.
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def add_export_options(parser: Any) -> None:
    """Adds what `stemforge export` and `stemforge convert-spleeter` have in common."""
    parser.add_argument(
        "--output", required=True, type=local_path, metavar="DIR", help="a new or empty folder"
    )
    parser.add_argument(
        "--frames",
        default="512,128",
        metavar="A,B,...",
        help="input lengths, in frames, of the TFLite files from waveform to waveforms: multiples "
        "of 64 for Spleeter's nets (default: %(default)s)",
    )
    parser.add_argument(
        "--corpus",
        metavar="ROOT",
        help="measure on the test tracks of this MUSDB folder (default: on the 6 s of real music "
        "that come with stempeg)",
    )
    parser.add_argument(
        "--timings",
        action="store_true",
        help="also measure start-up, latency and memory of each file on this machine: timings.json",
    )


def add_model_options(
    option: Any, *, default: str | None, use: str = "", directories: bool = True
) -> None:
    """Adds what names the models of a command that separates, and whether they may be fetched.

    Args:
        option: adds an option, as argparse's `add_argument`.
        default: the models that are used without --model; None: none.
        use: what is done with the models, where that needs saying.
        directories: whether model directories are supported too.
    """
    option(
        "--model",
        type=_place_of_models,
        default=default,
        metavar="MODEL",
        help=(f"{use}: " if use else "")
        + "a model's name (`stemforge models` lists them); a folder of .tflite files (such as "
        "exports/) or one such file; "
        + (
            "a model directory or a folder of them (such as models/), which need TensorFlow; "
            if directories
            else ""
        )
        + "a release's folder, or the address of its SHA256SUMS"
        + (f" (default: {default})" if default else ""),
    )
    option("--offline", action="store_true", help="fetch nothing: use what is on this machine")


def _place_of_models(text: str) -> str:
    """What --model names, unchanged: a path on this machine, a name, or an address.

    Raises:
        UserError: a URL of storage.
    """
    if not is_address(text):
        local_path(text)
    return text


def is_address(text: str) -> bool:
    """Whether a text is an address on the web, and not a path."""
    return text.lower().startswith(("http://", "https://"))


def split_names(text: str, *, option: str) -> list[str]:
    """The names in a comma-separated list, without blanks around them, in comparable form.

    Raises:
        UserError: a name is empty or there twice.
    """
    names = [storage.comparable(name.strip()) for name in text.split(",")]
    if "" in names:
        raise UserError(f"{option} {text!r}: an empty name: separate names by single commas")
    seen: set[str] = set()
    for name in names:
        if storage.folded(name) in seen:
            raise UserError(f"{option} {text}: {name} is there twice: name it once")
        seen.add(storage.folded(name))
    return names


def split_mapping(text: str | None, *, option: str) -> dict[str, list[str]] | None:
    """STEM=NAME+NAME,... as lists of names by stem, in comparable form; None stays None.

    Raises:
        UserError: a part has no = or nothing in front of it, or a stem is there twice.
    """
    if text is None:
        return None
    mapping: dict[str, list[str]] = {}
    for part in text.split(","):
        stem, equals, names = (storage.comparable(piece.strip()) for piece in part.partition("="))
        if not (stem and equals):
            raise UserError(f"{option} {text!r}: {part!r}: write STEM=NAME+NAME,...")
        if stem in mapping:
            raise UserError(f"{option} {text}: {stem} is there twice: name it once")
        mapping[stem] = [name.strip() for name in names.split("+")]
    return mapping


def local_path(text: str) -> Path:
    """The path that an option gives; for options that work only on this machine.

    Raises:
        UserError: it is a URL, or would be one with a second slash: gs:/bucket.
    """
    if not storage.is_local(text) or SCHEME.match(text):
        raise UserError(
            f"{text}: a URL, where only a path on this machine is supported: use a local folder, "
            "and copy it with the storage's own program"
        )
    return Path(text)


def check_method_name(name: str) -> None:
    """Refuses a name that cannot be a folder of scores.

    Raises:
        UserError: it cannot.
    """
    if not name or "/" in name or name.startswith("."):
        raise UserError(
            f"{name!r}: not a valid method name: use a folder name, without / and a dot in front"
        )
