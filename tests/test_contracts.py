"""What we touch of libraries without their promise: it is there, and versions are bounded."""

import ast
import inspect
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ai_edge_quantizer.algorithm_manager
import keras
import numpy as np
import pytest
from apache_beam.runners.portability import local_job_service, portable_runner
from apache_beam.runners.worker import data_plane
from packaging.requirements import Requirement
from tensorflow.core.protobuf import fingerprint_pb2

from stemforge.pipelines.running.beam_workers import SAID_BY_JOB, SAID_BY_THREAD
from tests.conftest import ROOT


def adam() -> Any:
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(np.zeros(2, np.float32))])
    return optimizer


@dataclass(frozen=True)
class Touched:
    """Which package has it, what of it, and which module of ours alone touches it."""

    package: str
    owner: Callable[[], Any]
    module: str


def portable_result() -> Any:
    return portable_runner.PipelineResult(None, "id", None, None)


def sound_devices() -> Any:
    try:
        import sounddevice
    except OSError as error:
        pytest.skip(f"no PortAudio here: {error}")
    return sounddevice


TOUCHED = {
    "_job_id": Touched("apache-beam", portable_result, "pipelines/running/beam_portable.py"),
    "_job_service": Touched("apache-beam", portable_result, "pipelines/running/beam_portable.py"),
    "_all_reduce_sum_gradients": Touched("keras", adam, "train/optimization.py"),  # replaced there
    "_get_variable_index": Touched("keras", adam, "train/optimization.py"),
    "_momentums": Touched("keras", adam, "train/optimization.py"),
    "_velocities": Touched("keras", adam, "train/optimization.py"),
    # Not private by name, but not documented either.
    "FingerprintDef": Touched("tensorflow", lambda: fingerprint_pb2, "eval/exports/files.py"),
    "AlgorithmName": Touched(
        "ai-edge-quantizer", lambda: ai_edge_quantizer.algorithm_manager, "eval/exports/files.py"
    ),
    "_exit_handler": Touched("sounddevice", sound_devices, "pipelines/live/devices.py"),
}
# Documented, but for the whole process: who ends it at once, and who sees all threads' errors.
PROCESS_WIDE = {
    "_exit": {
        "pipelines/running/beam_workers.py",
        "pipelines/running/parallel.py",
        "pipelines/running/work.py",
    },
    "excepthook": {"pipelines/running/beam_workers.py"},
}


def modules_of_ours() -> list[Path]:
    folders = [ROOT / name for name in ("features", "train", "eval", "pipelines")]
    return [
        *(path for folder in folders for path in sorted(folder.rglob("*.py"))),
        *sorted((ROOT / "stemforge").glob("*.py")),
    ]


@pytest.mark.parametrize("name", TOUCHED)
def test_what_is_touched_is_there(name: str) -> None:
    assert hasattr(TOUCHED[name].owner(), name)


def names(path: Path) -> tuple[set[str], set[str]]:
    """The names that a module defines or sets, and those that it takes from elsewhere."""
    own: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names}
    return own, used


def test_each_is_touched_in_its_module_and_nothing_else_is() -> None:
    modules = {path.relative_to(ROOT).as_posix(): names(path) for path in modules_of_ours()}
    ours = set.union(*(own for own, _ in modules.values()))
    found: dict[str, set[str]] = {}
    for module, (own, used) in modules.items():
        private = {name for name in used - ours if re.match("_[^_]", name)}
        for name in private | ((own | used) & (TOUCHED.keys() | PROCESS_WIDE.keys())):
            found.setdefault(name, set()).add(module)
    assert found == {name: {one.module} for name, one in TOUCHED.items()} | PROCESS_WIDE


def test_beam_tells_of_dead_workers_in_these_words() -> None:
    assert SAID_BY_THREAD in inspect.getsource(local_job_service.SubprocessSdkWorker.run)
    assert SAID_BY_JOB in inspect.getsource(data_plane)


def test_versions_of_what_is_touched_have_upper_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    bounded = {one.package for one in TOUCHED.values()} | {"apache-beam", "tensorflow-cpu"}
    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name in bounded:
            operators = {part.operator for part in requirement.specifier}
            assert operators & {"<", "<=", "=="}, requirement
