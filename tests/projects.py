"""A small checkout-like folder, and its stages run as processes of their own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from stemforge.pipelines.train_cluster import free_ports
from tests.conftest import ROOT

LIMIT_S = 120
STEMS = ["vocals", "drums"]


def environment(**more: str) -> dict[str, str]:
    """The environment's `bin` first on PATH: Beam's workers find their interpreter there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Nothing here may look for a cloud's metadata server.
    return os.environ | {"PATH": path, "NO_GCE_CHECK": "true"} | more


def stage(
    project: Path, name: str, *arguments: str, code: int = 0, **variables: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", f"stemforge.pipelines.{name}", *arguments],
        cwd=project,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == code, done.stderr
    return done


def make_project(root: Path, corpus: Path) -> Path:
    """A checkout's params.yaml, and a corpus decoded by it."""
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    set_params(
        root,
        corpus__root=str(corpus),
        corpus__stems=STEMS,
        features__bins=64,
        features__block_frames=32,
        features__mixture_phase="int8",
        train__models=STEMS,
        train__frames=16,
        train__width=2,
        train__depth=2,
        train__steps=2,
        train__validation_windows=2,
    )
    stage(root, "decode")
    return root


def untrained(original: Path, root: Path) -> Path:
    """A project with another's parameters and features, which it shares."""
    root.mkdir()
    shutil.copy(original / "params.yaml", root)
    (root / "data").mkdir()
    (root / "data" / "features").symlink_to(original / "data" / "features")
    return root


def set_params(project: Path, **values: object) -> None:
    """Changes values of params.yaml, named section__key."""
    yaml = YAML()
    path = project / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        section, key = name.split("__")
        if isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()  # a block would clash with the line's comment
        params[section][key] = value
    yaml.dump(params, path)


def free_port() -> int:
    return free_ports(1)[0]


@contextmanager
def server(port: int, *command: str) -> Iterator[None]:
    """A server of ours on loopback, until the test is done."""
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + LIMIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{command} ended"
            assert time.monotonic() < deadline, f"{command} does not answer"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=LIMIT_S)


@contextmanager
def google_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gs://bucket of this machine, for this process and those that it starts."""
    port = free_port()
    command = str(Path(sys.executable).parent / "gcp-storage-emulator")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    flags = ("--host", "127.0.0.1", "--port", str(port), "--in-memory")
    with server(port, command, "start", *flags, "--default-bucket", "bucket"):
        yield
