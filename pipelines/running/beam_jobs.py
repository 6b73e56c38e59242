"""Follows a Beam job that runs elsewhere: what it says, how it ends, how it is cancelled."""

import copy
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from apache_beam.metrics import MetricsFilter
from apache_beam.runners.runner import PipelineState

from stemforge.errors import JobGoesOn, UserError
from stemforge.pipelines.console import Ended, say
from stemforge.pipelines.running.beam_workers import SAID_BY_JOB, WORKER_DIED

# Pauses double: short jobs end at once, long ones cost little.
FIRST_POLL_S, LAST_POLL_S = 0.5, 10.0
# A service may name the cause some 30 s after the state; Beam's own poller waits as long.
CAUSE_WAIT_S, CAUSE_POLL_S = 50.0, 2.0
LINE_CHARACTERS = 500
# Beam wraps an error of a worker in text: "module.Class: message [while running 'Step']".
_USER_ERROR = re.compile(r"(?:UserError|AudioError): (.*?)(?: \[while running|$)", re.MULTILINE)
_SYSTEM_ERROR = re.compile(r"OSError: (\[Errno \d+\].*?)(?: \[while running|$)", re.MULTILINE)
# The line of a traceback that names the exception; of several, the last counts.
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*: .*?)(?: \[while running.*)?$", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"
_ATTEMPTS = "work item was attempted"  # Dataflow's count of failures, which names no cause


@dataclass(frozen=True)
class RemoteJob:
    """A job that a service runs.

    Attributes:
        result: Beam's handle of it.
        name: what the service calls it.
        page: where a person can watch it.
        by_hand: how a person cancels it.
        cancelled: what is true of it after its service accepted to cancel it.
        is_over: whether it then is over, or soon.
        news: shows the messages that are new; returns the texts of the errors among them.
        errors: exceptions of the service's client.
    """

    result: Any
    name: str
    page: str
    by_hand: str
    cancelled: str
    is_over: bool
    news: Callable[[], list[str]]
    errors: tuple[type[Exception], ...]


def follow(job: RemoteJob, *, watch: Callable[[dict[str, int]], object]) -> None:
    """Waits for a job's end; a signal or Ctrl-C asks to cancel it: it would go on, and cost.

    Args:
        job: submitted.
        watch: called with the job's counters every few seconds.

    Raises:
        UserError: the job failed or was cancelled.
        JobGoesOn: it may still run: it cannot be watched, or could not be cancelled.
    """
    try:
        say(f"beam: job {job.name} runs: {job.page} (Ctrl-C asks to cancel it)")
        state, errors = _poll(job, watch)
    except (KeyboardInterrupt, Ended) as ended:
        if _cancel(job):
            raise
        raise JobGoesOn("interrupted") from ended
    except job.errors as error:
        raise JobGoesOn(
            f"job {job.name} goes on, but cannot be watched from here: {one_line(str(error))}: "
            f"see {job.page}; to cancel it: {job.by_hand}"
        ) from error
    except Exception as error:  # a defect of ours or of Beam; nobody would know of the job
        traceback.print_exception(error)
        raise JobGoesOn(
            f"job {job.name} goes on, and costs: to cancel it: {job.by_hand}"
        ) from error
    if state == PipelineState.FAILED:
        raise UserError(f"job {job.name} failed: {cause(errors)}: see {job.page}")
    if state != PipelineState.DONE:
        raise UserError(f"job {job.name} ended as {state}, not done: see {job.page}")


def _poll(job: RemoteJob, watch: Callable[[dict[str, int]], object]) -> tuple[str, list[str]]:
    """The job's last state, and the texts of its errors."""
    errors: list[str] = []
    pause_s = FIRST_POLL_S
    while not PipelineState.is_terminal(state := job.result.state):
        errors += job.news()
        watch(counters(job.result))
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_POLL_S)
    errors += job.news()
    deadline_s = time.monotonic() + CAUSE_WAIT_S
    while state == PipelineState.FAILED and not errors and time.monotonic() < deadline_s:
        time.sleep(CAUSE_POLL_S)
        errors += job.news()
    return state, errors


def _cancel(job: RemoteJob) -> bool:
    """Asks to cancel a job; returns whether it is over then."""
    _tell(f"beam: cancelling job {job.name}")
    ending, is_over = f"goes on, and costs: to cancel it: {job.by_hand}", False
    try:
        job.result.cancel()
        ending, is_over = job.cancelled, job.is_over
    except job.errors as error:
        _tell(f"beam: {one_line(str(error))}")
    except (KeyboardInterrupt, Ended):
        pass  # a second Ctrl-C: it may not have been asked
    finally:
        _tell(f"beam: job {job.name} {ending}")
    return is_over


def _tell(text: str) -> None:
    """Says something; a terminal that has gone away does not stop the cancelling."""
    with suppress(OSError):
        say(text)


def counters(result: Any) -> dict[str, int]:
    """The job's counters so far, by name; those of several steps are added."""
    # Of a copy: a portable job's result would always return its first answer.
    found = copy.copy(result).metrics().query(MetricsFilter())["counters"]
    total: Counter[str] = Counter()
    for entry in found:
        total[entry.key.metric.name] += int(entry.result)
    return dict(total)


class Shown:
    """Shows a job's messages, each once: a worker's error comes once for each of its attempts."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def show(self, kind: str, text: str) -> None:
        """Shows a message on one line, unless it was shown before."""
        line = one_line(text)
        if line not in self._lines:
            self._lines.add(line)
            say(f"beam: {kind}: {line}")


def known_cause(text: str) -> str | None:
    """What a user can act on in an error's text: our own error, a full disk, a dead worker."""
    for pattern in (_USER_ERROR, _SYSTEM_ERROR):
        if said := pattern.findall(text):
            return str(said[-1])
    return WORKER_DIED if SAID_BY_JOB in text else None


def cause(errors: Sequence[str]) -> str:
    """The cause of a failure on one line: the last error that names one."""
    for text in reversed(errors):
        if known := known_cause(text):
            return known
    for text in reversed(errors):
        if _TRACEBACK in text:
            return one_line(text)
    told = [text for text in errors if _ATTEMPTS not in text] or errors
    return one_line(told[-1]) if told else "no message names the cause"


def one_line(text: str) -> str:
    """A message on one short line: a traceback's exception, else its words."""
    if known := known_cause(text):
        return known
    if _TRACEBACK in text and (raised := _EXCEPTION.findall(text)):
        text = raised[-1]
    words = " ".join(text.split())
    return words if len(words) <= LINE_CHARACTERS else f"{words[: LINE_CHARACTERS - 3]}..."
