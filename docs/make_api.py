"""Writes docs/api.md from the docstrings of the public API: python -m docs.make_api."""

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import stemforge
from stemforge.eval.scoring import bss_eval, scores

PAGE = Path(__file__).with_name("api.md")
HEAD = """\
# Python API

`python -m docs.make_api` writes this page from the docstrings; a test checks it. `import stemforge`
loads nothing else. A name loads what it needs when it is first used; if an extra is missing, the
error names it. Everything that is not on this page may change.

"""
# Classes that the functions take and return.
CLASSES = (bss_eval.BssEval, scores.Scoring, scores.TrackScores, scores.Remark)
METHODS = {"Separator": ("load", "separate", "separate_stream")}


def api_page() -> str:
    """The page as Markdown."""
    parts = []
    for name in stemforge.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(stemforge, name)
        parts.append(_entry(f"stemforge.{name}", thing, level=2))
        for method in METHODS.get(name, ()):
            parts.append(_entry(f"{name}.{method}", getattr(thing, method), level=3))
    for kind in CLASSES:
        text = inspect.getdoc(kind)
        parts.append(f"### {kind.__name__}\n\n`{kind.__module__}`\n\n```text\n{text}\n```\n")
    return HEAD + "\n".join(parts)


def _entry(name: str, thing: Any, *, level: int) -> str:
    signature = _signature(name, thing)
    text = inspect.getdoc(thing) or ""
    return f"{'#' * level} {name}\n\n```python\n{signature}\n```\n\n```text\n{text}\n```\n"


def _signature(name: str, thing: Any) -> str:
    """The signature as in the source, one argument per line."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    given, named = node.args.args, node.args.kwonlyargs
    defaults = [None] * (len(given) - len(node.args.defaults)) + node.args.defaults
    arguments = zip(given, defaults, strict=True)
    lines = [_argument(a, default) for a, default in arguments if a.arg not in ("self", "cls")]
    if named:
        lines += ["*", *map(_argument, named, node.args.kw_defaults)]
    if node.args.kwarg:
        lines.append(f"**{ast.unparse(node.args.kwarg)}")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and function is thing else ""
    return (
        f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + ")" + returns.replace("'", "")
    )


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    return text if default is None else f"{text} = {ast.unparse(default)}"


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
