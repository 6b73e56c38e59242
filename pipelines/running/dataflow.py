"""Runs a Beam job on Google's Dataflow; needs the extra `gcp`."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, TestOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner, DataflowRuntimeException
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from stemforge.errors import JobGoesOn, UserError
from stemforge.pipelines.console import Ended, say
from stemforge.pipelines.running.beam_jobs import RemoteJob, Shown, follow, one_line

# OSError: what the HTTP client raises without a network, and Beam where an upload fails.
ERRORS = (GoogleAPIError, GoogleAuthError, OSError, DataflowRuntimeException)
PROBE = "stemforge-was-here"
ADVICE = {
    401: "log in by `gcloud auth application-default login`",
    403: "enable the APIs and give this account the roles of docs/dataflow.md",
    404: "correct --project, --region and the bucket",
    409: "choose another --job_name",
    429: "wait, or ask for a larger quota",
}


def check_flags(options: PipelineOptions) -> None:
    """Refuses a job that lacks what each job on Dataflow needs; asks no service.

    Raises:
        UserError: a flag is missing or has an impossible value.
    """
    google = options.view_as(GoogleCloudOptions)
    validator = PipelineOptionsValidator(options, DataflowRunner())
    errors = validator.validate_gcs_path(google, "temp_location")
    if validator.is_service_runner():  # not a service on this machine
        errors += validator.validate_cloud_options(google)
    if google.template_location:
        errors.append("--template_location makes a template and runs nothing: remove it.")
    if errors:
        raise UserError(f"--runner=DataflowRunner: {' '.join(errors)} See docs/dataflow.md")


def run_on_dataflow(pipeline: beam.Pipeline, *, watch: Callable[[dict[str, int]], object]) -> None:
    """Submits a job, shows its id, its page and its messages, and waits for its end.

    Args:
        pipeline: complete; its options are those of `check_flags`.
        watch: called with the job's counters every few seconds.

    Raises:
        UserError: the service refused the job, or the job failed; one line with the cause.
    """
    google = pipeline.options.view_as(GoogleCloudOptions)
    if pipeline.options.view_as(TestOptions).dry_run:
        raise UserError("--dry_run: would run nothing: remove it")
    _check_staging(pipeline.options)
    where = f"--region={google.region} --project={google.project}"
    try:
        result = pipeline.run()
    except (KeyboardInterrupt, Ended) as ended:
        say(f"beam: the job may have been sent: `gcloud dataflow jobs list {where}` shows it")
        raise JobGoesOn("interrupted") from ended
    except (*ERRORS, DataflowJobAlreadyExistsError, RuntimeError) as error:
        raise _refused("Dataflow", error) from error
    name = result.job_id()
    console = "https://console.cloud.google.com/dataflow/jobs"
    page = f"{console}/{google.region}/{name}?project={google.project}"
    job = RemoteJob(
        result,
        name,
        page,
        by_hand=f"gcloud dataflow jobs cancel {name} {where}",
        cancelled=f"is being cancelled: see {page}",
        is_over=True,
        news=Messages(pipeline.runner.dataflow_client, name).news,
        errors=ERRORS,
    )
    follow(job, watch=watch)


def _check_staging(options: PipelineOptions) -> None:
    """Writes a file where Beam stages, and removes it: Beam tries a failed upload for minutes."""
    google = options.view_as(GoogleCloudOptions)
    place = google.staging_location or google.temp_location
    bucket, _, folder = place.removeprefix("gs://").partition("/")
    try:
        client = create_storage_client(options, not google.no_auth)
        # Not get_bucket: it needs a right to read the bucket's settings.
        probe = client.bucket(bucket).blob(os.path.join(folder, PROBE))
        probe.upload_from_string(b"")
    except ERRORS as error:
        raise _refused(place, error) from error
    with suppress(*ERRORS):  # a bucket that keeps its files for a while can still be staged to
        probe.delete()


def _refused(who: str, error: Exception) -> UserError:
    code = getattr(error, "code", None)
    advice = ADVICE.get(code or 0, "see docs/dataflow.md")
    words = one_line(str(getattr(error, "message", None) or error))
    return UserError(f"{who}: refused{f' with {int(code)}' if code else ''}: {words}: {advice}")


class Messages:
    """The warnings and errors of a job, each shown once.

    Args:
        client: Beam's, of the service.
        job: its id.
    """

    def __init__(self, client: Any, job: str) -> None:
        self._client = client
        self._job = job
        self._since: Any = None
        self._seen: set[str] = set()
        self._shown = Shown()

    def news(self) -> list[str]:
        """Shows what came since the last call; returns the full texts of the errors."""
        errors: list[str] = []
        since, page = self._since, None
        while True:
            messages, page = self._client.list_messages(
                self._job,
                start_time=since,
                page_token=page,
                minimum_importance="JOB_MESSAGE_WARNING",
            )
            for message in messages:
                if message.id in self._seen:
                    continue  # of the same moment as the last one
                self._seen.add(message.id)
                self._since = max(filter(None, (self._since, message.time)), default=None)
                error = message.message_importance.name == "JOB_MESSAGE_ERROR"
                if error:
                    errors.append(message.message_text)
                self._shown.show("error" if error else "warning", message.message_text)
            if not page:
                return errors
