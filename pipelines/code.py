"""The code that decides a stage's output: the modules that it imports, and a hash of them.

dvc.yaml lists this code among each stage's dependencies; `python -m stemforge.pipelines.code`
writes the lists, and tests/test_house.py compares them with the imports. Training writes the hash
into model.json.
"""

import ast
import functools
import hashlib
import re
import textwrap
from collections.abc import Container, Iterator
from pathlib import Path

import stemforge
from stemforge import storage
from stemforge.pipelines.console import run_main, say

PACKAGE = Path(stemforge.__file__).parent  # its links lead to the other packages
STAGES = "stemforge.pipelines.stages"
TRAINING = "stemforge.pipelines.running.training"
# Modules that decide no output. Neither they nor what only they import count.
WITHOUT_EFFECT = {
    "stemforge": "says only where the public names are",
    "stemforge.pipelines.params": "reads params.yaml, whose values are parameters in dvc.yaml",
    "stemforge.pipelines.console": "what is shown on the terminal",
    "stemforge.pipelines.running.monitor": "writes to runs/, which no stage reads",
    "stemforge.pipelines.code": "says which code it was",
}
# What modules read that lies beside them.
DATA = {
    "stemforge.eval.scoring.scores": "eval/scoring/museval.schema.json",
    "stemforge.eval.leaderboard.published": "eval/leaderboard/reference",
}
WIDTH = 100  # of a line of dvc.yaml


def closure(module: str, *, without: Container[str] = WITHOUT_EFFECT) -> list[str]:
    """The modules that a module imports, wherever in it, with itself and what they import.

    Args:
        module: its full name.
        without: modules that are left out, with what only they import.

    Returns:
        Full names, sorted, without modules that hold nothing but a docstring.
    """
    found, wanted = set[str](), [module]
    while wanted:
        parts = wanted.pop().split(".")
        for name in (".".join(parts[: count + 1]) for count in range(len(parts))):
            if name not in found and name not in without and _file(name) is not None:
                found.add(name)
                wanted += _imports(name)
    return sorted(name for name in found if not _is_docstring(name))


def code_sha256(module: str) -> str:
    """sha256 over the names and contents of a module's closure and of the data beside it."""
    digest = hashlib.sha256()
    for name in closure(module):
        files = [_file(name)]
        if name in DATA:
            place = PACKAGE / DATA[name]
            files += storage.visible(place.iterdir(), place) if place.is_dir() else [place]
        for file in files:
            assert file is not None  # modules of a closure have a file
            digest.update(f"{name} {file.name} {storage.file_sha256(file)}\n".encode())
    return digest.hexdigest()


def is_module(name: str) -> bool:
    """Whether there is a module of ours of that full name."""
    return _file(name) is not None


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
    counted = {name for name in modules if name not in WITHOUT_EFFECT and not _is_docstring(name)}
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


def _file(name: str) -> Path | None:
    """The file of a module of ours."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.cache
def _tree(name: str) -> ast.Module:
    file = _file(name)
    assert file is not None, name
    return ast.parse(file.read_text(encoding="utf-8"))


def _is_docstring(name: str) -> bool:
    body = _tree(name).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _imports(name: str) -> list[str]:
    """Names of ours that a module imports; of `from a import b` both a and a.b."""
    found: list[str] = []
    nodes: list[ast.AST] = [_tree(name)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        nodes += ast.iter_child_nodes(node)
    return [name for name in found if name.split(".")[0] == "stemforge"]


if __name__ == "__main__":
    raise SystemExit(run_main(write_lists))
