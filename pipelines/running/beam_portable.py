"""A job of Beam's portable job service, such as Flink's: its id and its messages.

Beam's result has both, but shows neither: its id is private, and its stream of messages is cut
after the time that it grants one request (a minute), so that a later failure has no cause. This
module, and no other, touches these private attributes.
"""

import queue
import threading
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2

from stemforge.pipelines.running.beam_jobs import RemoteJob


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
        news=_errors(result),
        errors=(grpc.RpcError,),
    )


def _errors(result: Any) -> Any:
    """Starts to read the job's messages; returns what takes the errors that came so far."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    request = beam_job_api_pb2.JobMessagesRequest(job_id=result._job_id)
    stream = result._job_service.GetMessageStream(request)  # without a time limit

    def read() -> None:
        try:
            for message in stream:
                said = message.message_response
                if said.importance == beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR:
                    found.put(said.message_text)
        except grpc.RpcError as error:
            found.put(f"the job service's messages ended: {error.code().name}")

    threading.Thread(target=read, daemon=True).start()
    return lambda: [found.get() for _ in range(found.qsize())]
