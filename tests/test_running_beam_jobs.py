"""The cause of a job's failure, found in texts as Beam's services write them."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2

from stemforge.pipelines.running.beam_jobs import LINE_CHARACTERS, cause, one_line
from stemforge.pipelines.running.beam_portable import portable_job
from stemforge.pipelines.running.beam_workers import WORKER_DIED

TRACEBACK = (
    "Error message from worker: generic::unknown: Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1498, in process\n'
    "KeyError: 'mixture'\n\n"
    "During handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n"
    '  File "/opt/stemforge/features/shards/writing.py", line 7, in write_shard\n'
    "{} [while running 'Features/Write-ptransform-37']\n\n"
    "passed through:\n==>\n    dist_proc/dax/workflow/worker/fnapi_service_impl.cc:1348"
)
ATTEMPTS = "The job failed. The work item was attempted on these workers: a, b"


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        ([TRACEBACK.format("stemforge.errors.UserError: no track: add one")], "no track: add one"),
        ([TRACEBACK.format("OSError: [Errno 28] No space left")], "[Errno 28] No space left"),
        ([TRACEBACK.format("numpy.exceptions.AxisError: 3")], "numpy.exceptions.AxisError: 3"),
        (["RuntimeError: Channel closed prematurely."], WORKER_DIED),
        # What names a cause counts, not what comes last.
        (["UserError: no track", TRACEBACK.format("ValueError: 3"), ATTEMPTS], "no track"),
        ([TRACEBACK.format("ValueError: 3"), ATTEMPTS, "Workflow failed."], "ValueError: 3"),
        (["Quota CPUS\nexceeded.", ATTEMPTS], "Quota CPUS exceeded."),
        ([ATTEMPTS], ATTEMPTS),
        ([], "no message names the cause"),
    ],
)
def test_the_cause_of_a_failure(errors: list[str], found: str) -> None:
    assert cause(errors) == found


def test_a_line_is_short() -> None:
    assert one_line("é" * 600) == "é" * (LINE_CHARACTERS - 3) + "..."


class Lost(grpc.RpcError):  # type: ignore[misc]
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


def test_a_portable_jobs_messages_are_shown_and_their_end_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = beam_job_api_pb2.JobMessage

    def stream(_: object) -> Iterator[Any]:
        for importance, text in (
            (kinds.JOB_MESSAGE_BASIC, "All is well."),
            (kinds.JOB_MESSAGE_WARNING, "slow\ndisk"),
            (kinds.JOB_MESSAGE_ERROR, "UserError: no track"),
            (kinds.JOB_MESSAGE_ERROR, "UserError: no track"),
        ):
            message = kinds(importance=importance, message_text=text)
            yield beam_job_api_pb2.JobMessagesResponse(message_response=message)
        raise Lost

    service = SimpleNamespace(GetMessageStream=stream)
    job = portable_job(SimpleNamespace(_job_id="1", _job_service=service), "localhost:1")
    errors: list[str] = []
    said = ""
    deadline_s = time.monotonic() + 10
    while "ended" not in said and time.monotonic() < deadline_s:
        errors += job.news()
        said += capsys.readouterr().err
    assert errors == ["UserError: no track"] * 2
    assert said.splitlines() == [
        "beam: warning: slow disk",
        "beam: error: no track",
        "beam: warning: the job service's messages ended: UNAVAILABLE",
    ]
