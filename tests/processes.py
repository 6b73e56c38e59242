"""Processes that tests start: commands in a project folder, servers on this machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.flink.isolation import emulator, emulator_environment
from stemforge.pipelines.running.supervisor import free_ports

LIMIT_S = 120


def environment(**more: str) -> dict[str, str]:
    """The environment's `bin` first on PATH: Beam's workers find their interpreter there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Nothing here may look for a cloud's metadata server.
    return os.environ | {"PATH": path, "NO_GCE_CHECK": "true"} | more


CLI = (sys.executable, "-m", "stemforge.pipelines.commands.main")


def stemforge(
    project: Path, *arguments: str, code: int = 0, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Runs the `stemforge` command."""
    done = subprocess.run(
        [*CLI, *arguments],
        cwd=project,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == code, done.stderr
    return done


def free_port() -> int:
    return free_ports(1)[0]


@contextmanager
def server(port: int, *command: str, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server of ours on loopback, until the test is done."""
    process = subprocess.Popen(
        command,
        env=environment(**variables or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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
    for name, value in emulator_environment(port).items():
        monkeypatch.setenv(name, value)
    with server(port, *emulator(port)):
        yield
