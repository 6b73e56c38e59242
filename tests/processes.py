"""Processes that tests start: commands in a project folder, servers on this machine."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


@dataclass
class FileServer:
    """A web server of one file, on loopback, as the test wants it.

    Attributes:
        data: the file.
        headers: of each answer.
        ranges: whether it supports Range.
        cuts: after how many bytes each answer ends; the others are whole.
        pause_s: after each 64 KiB.
        asked: the Range of each request, "" where there is none.
    """

    data: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Sends the file, or its end where that is asked for and the file is the same."""
        asked, mark = (request.headers.get(name, "") for name in ("Range", "If-Range"))
        self.asked.append(asked)
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        same = not mark or mark in self.headers.values()
        start = int(found[1]) if found and self.ranges and same else 0
        body, size = self.data[start:], len(self.data)
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.end_headers()
        body = body[: self.cuts.pop(0) if self.cuts else None]
        for place in range(0, len(body), 2**16):
            request.wfile.write(body[place : place + 2**16])
            time.sleep(self.pause_s)


@contextmanager
def file_server(served: FileServer) -> Iterator[FileServer]:
    """Starts the server; its address is in `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):  # of a client that was killed
                served.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = Thread(target=web.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        served.url = f"http://127.0.0.1:{web.server_port}/file.zip"
        try:
            yield served
        finally:
            web.shutdown()
            thread.join()
