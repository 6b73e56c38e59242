"""The code that a module runs: the modules of ours that it imports, and a hash of them."""

import ast
import functools
import hashlib
from collections.abc import Container
from pathlib import Path

import stemforge
from stemforge import storage

PACKAGE = Path(stemforge.__file__).parent  # its links lead to the other packages
# Modules that decide no output. Neither they nor what only they import count.
WITHOUT_EFFECT = {
    "stemforge": "says only where the public names are",
    "stemforge.pipelines.params": "reads params.yaml and presets, which dvc.yaml lists",
    "stemforge.pipelines.sections": "what the sections of params.yaml share",
    "stemforge.pipelines.train_section": "one of these sections",
    "stemforge.pipelines.console": "what is shown on the terminal",
    "stemforge.pipelines.running.monitor": "writes to runs/, which no stage reads",
    "stemforge.code": "says which code it was",
    "stemforge.pipelines.code": "lists that code in dvc.yaml",
}
# What modules read that lies beside them.
DATA = {
    "stemforge.features.corpus.musdb18": "features/corpus/musdb18.csv",
    "stemforge.eval.scoring.scores": "eval/scoring/museval.schema.json",
    "stemforge.eval.leaderboard.published": "eval/leaderboard/reference",
    "stemforge.eval.report.pages": "eval/report/assets",
    "stemforge.eval.web.page": "eval/web/assets",
}


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
            if name not in found and name not in without and find_module(name) is not None:
                found.add(name)
                wanted += _imports(name)
    return sorted(name for name in found if not is_docstring(name))


def code_sha256(module: str) -> str:
    """sha256 over the names and contents of a module's closure and of the data beside it."""
    digest = hashlib.sha256()
    for name in closure(module):
        files = [find_module(name)]
        if name in DATA:
            place = PACKAGE / DATA[name]
            files += storage.visible(place.iterdir(), place) if place.is_dir() else [place]
        for file in files:
            assert file is not None  # modules of a closure have a file
            digest.update(f"{name} {file.name} {storage.file_sha256(file)}\n".encode())
    return digest.hexdigest()


def is_module(name: str) -> bool:
    """Whether there is a module of ours of that full name."""
    return find_module(name) is not None


def find_module(name: str) -> Path | None:
    """The file of a module of ours, by its full name."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.cache
def _tree(name: str) -> ast.Module:
    file = find_module(name)
    assert file is not None, name
    return ast.parse(file.read_text(encoding="utf-8"))


def is_docstring(name: str) -> bool:
    """Whether a module holds nothing but a docstring."""
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
