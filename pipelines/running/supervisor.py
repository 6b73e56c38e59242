"""Several workers of one model on this machine, restarted when one fails.

The supervisor starts the processes, watches them, and starts all of them again from the last
checkpoint when one dies or does not answer.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stemforge.errors import IncompleteError, Interrupted, UserError
from stemforge.pipelines.console import EXIT_USER_ERROR, say
from stemforge.pipelines.running.heartbeat import HEARTBEAT

POLL_S = 0.2
SETTLE_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOPPING_S = 300.0  # until the last step, its validation and the checkpoint are done
ALONE_S = 20.0  # a worker may run this long after the first one ended
THREADS = "TF_NUM_INTRAOP_THREADS"


@dataclass
class Worker:
    """One process.

    Attributes:
        number: 0 is the chief.
        process: running or ended.
        beat: the file with its heartbeat.
        log: what it prints.
        started_s: when, on the monotonic clock.
    """

    number: int
    process: "subprocess.Popen[bytes]"
    beat: Path
    log: Path
    started_s: float

    def silent_s(self) -> float:
        """Time since its last heartbeat."""
        age_s = time.monotonic() - self.started_s
        try:
            return min(age_s, time.time() - self.beat.stat().st_mtime)
        except FileNotFoundError:
            return age_s

    def step(self) -> int:
        """The last step that it is known to have done, -1 for none."""
        try:
            return int(self.beat.read_text(encoding="ascii") or -1)
        except FileNotFoundError:
            return -1

    def last_error(self) -> str:
        """The line that it ended with, without the command's name."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1].removeprefix("stemforge: ").removeprefix("error: ") if lines else ""


class Supervisor:
    """Runs workers until they are done.

    Args:
        command: of each worker.
        workers: how many.
        logs: folder for what each prints.
        beats: folder for their heartbeats.
        heartbeat_timeout_s: a worker without a heartbeat for this long counts as hung.
        restarts: it gives up after this many in a row without progress.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int,
        logs: Path,
        beats: Path,
        heartbeat_timeout_s: float,
        restarts: int,
    ) -> None:
        self._command = list(command)
        self._count = workers
        self._logs = logs
        self._beats = beats
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._restarts = restarts
        self._workers: list[Worker] = []
        self._signals: list[int] = []

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Inside, the first SIGINT or SIGTERM ends the workers with a checkpoint."""

        def note(number: int, frame: object) -> None:
            self._signals.append(number)

        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self) -> None:
        """Returns when all workers have done their work.

        Raises:
            UserError: a worker ended with one.
            IncompleteError: too many restarts.
            Interrupted: a signal came.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        failures, furthest = 0, -1
        try:
            while True:
                self._start()
                problem = self._watch()
                if problem is None:
                    return
                step = max(worker.step() for worker in self._workers)
                self._kill()
                failures = 1 if step > furthest else failures + 1
                furthest = max(furthest, step)
                if failures > self._restarts:
                    raise IncompleteError(
                        f"train-cluster: {problem}; no progress after {self._restarts} restarts: "
                        f"see {self._logs}; the next run resumes from the last checkpoint"
                    )
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failures - 1))
                say(f"train-cluster: {problem}: all restart in {pause_s:.0f} s")
                self._sleep(pause_s)
        finally:
            self._kill()
            shutil.rmtree(self._beats, ignore_errors=True)

    def _start(self) -> None:
        shutil.rmtree(self._beats, ignore_errors=True)
        self._beats.mkdir(parents=True)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self._count)]
        share = max(1, (os.cpu_count() or 1) // self._count)
        self._workers = []
        for number in range(self._count):
            beat = self._beats / str(number)
            config = {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": number},
            }
            environment = {
                THREADS: str(share),
                "TF_CPP_MIN_LOG_LEVEL": "3",  # it logs what it then raises
                **os.environ,
                "TF_CONFIG": json.dumps(config),
                HEARTBEAT: str(beat.resolve()),
            }
            log = self._logs / f"worker-{number}.log"
            with log.open("ab") as file:
                process = subprocess.Popen(
                    self._command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file if number else subprocess.PIPE,
                    start_new_session=True,  # a terminal's Ctrl-C is for the supervisor alone
                )
            if process.stderr is not None:
                threading.Thread(target=_show, args=(process.stderr, log), daemon=True).start()
            self._workers.append(Worker(number, process, beat, log, time.monotonic()))

    def _watch(self) -> str | None:
        """Waits for the end of all workers; what went wrong, or None."""
        while True:
            self._sleep(POLL_S)
            if any(self._codes().values()):
                self._sleep(
                    SETTLE_S
                )  # the first to fail makes others fail; wait to find out which it was
                return self._blame()
            for worker in self._workers:
                silent_s = worker.silent_s()
                if worker.process.poll() is None and silent_s > self._heartbeat_timeout_s:
                    return f"worker {worker.number} has not answered for {silent_s:.0f} s"
            if len(self._codes()) == self._count:
                return None

    def _codes(self) -> dict[int, int]:
        """Exit codes of the workers that have ended, by number."""
        codes = {worker.number: worker.process.poll() for worker in self._workers}
        return {number: code for number, code in codes.items() if code is not None}

    def _blame(self) -> str:
        """The worker that failed first, and how.

        Raises:
            UserError: it was a user's error.
        """
        failed = {number: code for number, code in self._codes().items() if code}
        for number, code in failed.items():
            if code == EXIT_USER_ERROR:
                raise UserError(f"worker {number}: {self._workers[number].last_error()}")
        # Killed workers first: the others only report that a worker is missing.
        number, code = min(failed.items(), key=lambda entry: entry[1])
        if code < 0:
            return f"worker {number} was ended by {signal.Signals(-code).name}"
        said = self._workers[number].last_error()
        return f"worker {number} ended with exit code {code}{f': {said}' if said else ''}"

    def _sleep(self, seconds: float) -> None:
        """Sleeps unless a signal has come or comes.

        Raises:
            Interrupted: then, when the workers have ended.
        """
        end_s = time.monotonic() + seconds
        while True:
            if self._signals:
                self._stop()
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, POLL_S))

    def _stop(self) -> None:
        """Ends the workers with a checkpoint; a second signal ends them at once."""
        number = self._signals[0]
        say("train-cluster: ending all workers after a checkpoint; a second signal ends them now")
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOPPING_S
        while len(self._signals) == 1 and time.monotonic() < deadline_s:
            running = [worker.process.poll() is None for worker in self._workers]
            if not any(running):
                break
            if not all(running):  # the others cannot continue alone for long
                deadline_s = min(deadline_s, time.monotonic() + ALONE_S)
            time.sleep(POLL_S)
        self._kill()
        raise Interrupted("train-cluster: stopped; the next run resumes from the last checkpoint",
                          number)  # fmt: skip

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.wait()


def _show(stream: IO[bytes], log: Path) -> None:
    """Copies the chief's output to its log, and all but its last line to the terminal."""
    with stream, log.open("ab") as file:
        for line in stream:
            file.write(line)
            file.flush()
            if not line.startswith(b"stemforge: "):  # which the supervisor says
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
