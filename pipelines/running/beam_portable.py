"""A job of Beam's portable job service, such as Flink's: its id and its messages.

Beam's result has both, but shows neither: its id is private, and its stream of messages is cut
after the time that it grants one request (a minute), so that a later failure has no cause. This
module, and no other, touches these private attributes.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2

from stemforge.pipelines.running.beam_jobs import RemoteJob, Shown

KINDS = {
    beam_job_api_pb2.JobMessage.JOB_MESSAGE_WARNING: "warning",
    beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR: "error",
}


def portable_job(result: Any, service: str) -> RemoteJob:
    """A submitted job.

    Args:
        result: Beam's handle of it.
        service: where the job service is.
    """
    return RemoteJob(
        result,
        name=result._job_id,
        page=f"the job service at {service}",
        by_hand="cancel it on the cluster's own page",
        # Beam's job server for Flink then stops to wait for the job, which Flink runs to its end.
        cancelled=f"is left by the job service at {service}; Flink may run it on: cancel it on "
        "the cluster's own page",
        is_over=False,
        news=_messages(result),
        errors=(grpc.RpcError,),
    )


def _messages(result: Any) -> Callable[[], list[str]]:
    """Starts to read the job's messages; returns what shows the new ones, as RemoteJob.news."""
    found: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    shown = Shown()
    request = beam_job_api_pb2.JobMessagesRequest(job_id=result._job_id)
    stream = result._job_service.GetMessageStream(request)  # without a time limit

    def read() -> None:
        try:
            for message in stream:
                said = message.message_response
                if kind := KINDS.get(said.importance):
                    found.put((kind, said.message_text))
        except grpc.RpcError as error:  # not the job's: it may go on, or end well
            found.put(("warning", f"the job service's messages ended: {error.code().name}"))

    def news() -> list[str]:
        messages = [found.get() for _ in range(found.qsize())]
        for kind, text in messages:
            shown.show(kind, text)
        return [text for kind, text in messages if kind == "error"]

    threading.Thread(target=read, daemon=True).start()
    return news
