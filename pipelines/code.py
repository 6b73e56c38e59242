"""The lists of code in dvc.yaml: the code that decides a stage's output is its dependency.

`python -m stemforge.pipelines.code` writes the lists, and tests/test_house.py compares them with
the imports.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from stemforge.code import DATA, PACKAGE, WITHOUT_EFFECT, closure, is_docstring
from stemforge.pipelines.console import run_main, say

STAGES = "stemforge.pipelines.stages"
TRAINING = "stemforge.pipelines.running.training"
WIDTH = 100  # of a line of dvc.yaml


def dependencies(module: str) -> list[str]:
    """A module's closure as paths of the checkout: a folder where all of its modules belong."""
    names = set(closure(module))
    paths = [DATA[name] for name in names if name in DATA]
    for root in ("stemforge", "features", "train", "eval", "pipelines"):
        paths += _cover(Path(root), names)
    return sorted(path for path in paths if str(Path(path).parent) not in paths)


def write_lists(place: Path = Path("dvc.yaml")) -> None:
    """Brings the code in the stages' dependencies up to date."""
    text = place.read_text(encoding="utf-8")
    found = re.sub(r"(?ms)^  (\w+):\n    desc:.*?(?=^  \w|^\S|\Z)", _with_code, text)
    if found != text:
        place.write_text(found, encoding="utf-8")
        say(f"{place}: the stages' code is other code now")


def _with_code(stage: re.Match[str]) -> str:
    """A stage's text with the code in its `deps`."""

    def written(found: re.Match[str]) -> str:
        given = [part.strip() for part in found[1].split(",") if part.strip()]
        data = [part for part in given if not is_code(part.strip('"'))]
        listed = ", ".join([*data, *dependencies(f"{STAGES}.{stage[1]}")])
        lines = textwrap.wrap(
            f"deps: [{listed}]", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 6,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        return "\n".join(lines)

    return re.sub(r"(?s)    deps: \[(.*?)\]", written, stage[0])


def is_code(path: str) -> bool:
    """Whether a dependency of a stage is code of ours."""
    return path.split("/")[0] in {"stemforge", "features", "train", "eval", "pipelines"}


def _cover(folder: Path, names: set[str]) -> Iterator[str]:
    modules = {name for path in (PACKAGE.parent / folder).rglob("*.py") if (name := _name(path))}
    counted = {name for name in modules if name not in WITHOUT_EFFECT and not is_docstring(name)}
    if counted and counted <= names and folder.name != "stemforge":  # DVC's view of links differs
        yield folder.as_posix()
        return
    for path in sorted((PACKAGE.parent / folder).iterdir()):
        inner = folder / path.name
        if path.is_dir() and not path.is_symlink():
            yield from _cover(inner, names)
        elif _name(path) in names:
            yield inner.as_posix()


def _name(path: Path) -> str:
    """The full name of a module of the checkout; "" for other files."""
    if path.suffix != ".py":
        return ""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    parts = parts if parts[0] == "stemforge" else ("stemforge", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


if __name__ == "__main__":
    raise SystemExit(run_main(write_lists))
