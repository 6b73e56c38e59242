"""What we touch of libraries without their promise: it is there, and versions are bounded."""

import ast
import tomllib
from collections.abc import Callable
from typing import Any

import ai_edge_quantizer.algorithm_manager
import keras
import numpy as np
import pytest
from apache_beam.options import pipeline_options
from packaging.requirements import Requirement
from tensorflow.core.protobuf import fingerprint_pb2

from tests.conftest import ROOT


def adam() -> Any:
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(np.zeros(2, np.float32))])
    return optimizer


# Private name: the package it belongs to, and what has it.
TOUCHED: dict[str, tuple[str, Callable[[], Any]]] = {
    "_all_reduce_sum_gradients": ("keras", adam),  # train.optimization replaces it
    "_get_variable_index": ("keras", adam),
    "_momentums": ("keras", adam),
    "_velocities": ("keras", adam),
    "_BeamArgumentParser": ("apache-beam", lambda: pipeline_options),
    "_add_argparse_args": ("apache-beam", lambda: pipeline_options.PipelineOptions),
    # Not private by name, but not documented either.
    "FingerprintDef": ("tensorflow", lambda: fingerprint_pb2),
    "AlgorithmName": ("ai-edge-quantizer", lambda: ai_edge_quantizer.algorithm_manager),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_what_is_touched_is_there(name: str) -> None:
    assert hasattr(TOUCHED[name][1](), name)


def test_nothing_else_is_touched() -> None:
    used: set[str] = set()
    own: set[str] = set()
    for package in ("features", "train", "eval", "pipelines", "stemforge"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    own.add(node.name)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
                elif isinstance(node, ast.Attribute):
                    used.add(node.attr)
                elif isinstance(node, ast.ImportFrom):
                    used |= {alias.name for alias in node.names}
    private = {name for name in used - own if name.startswith("_") and not name.startswith("__")}
    private.discard("_exit")  # os._exit, which is documented
    assert private <= set(TOUCHED)


def test_versions_of_what_is_touched_have_upper_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    bounded = {package for package, _ in TOUCHED.values()} | {"tensorflow-cpu"}
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name in bounded:
            operators = {part.operator for part in requirement.specifier}
            assert operators & {"<", "<=", "=="}, requirement
