"""`stemforge features --runner=DataflowRunner` against a fake of the service, at its HTTP edge.

The fake answers Dataflow's REST interface and writes down what it is asked; a local gs:// takes
what is staged. Where a job has to succeed, Beam's local runner executes the pipeline that was
staged, as the workers would.
"""

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from typing import Any

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import (
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
    beam_runner_api_pb2,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from google.cloud.dataflow import JobState as DataflowState

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.pipelines.commands.main import build_parser, main
from stemforge.pipelines.running.beam import pipeline_options
from tests.conftest import ROOT
from tests.processes import CLI, LIMIT_S, environment, free_port, google_storage, server

pytestmark = pytest.mark.system
JOB = "2026-11-26_01_02_03-4567"
JOBS = "/v1b3/projects/project/locations/europe-west4/jobs"
BY_HAND = f"gcloud dataflow jobs cancel {JOB} --region=europe-west4 --project=project"
IMAGE = ("--sdk_container_image=europe-west4-docker.pkg.dev/project/images/features:1",)
LINK = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{JOB}?project=project"
WORKER_ERROR = (
    "Error message from worker: generic::unknown: Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1498, in process\n'
    '  File "/opt/stemforge/features/shards/beam.py", line 168, in process\n'
    "stemforge.errors.UserError: 3 of 3 tracks of the train split failed "
    "[while running 'Features/Finish-ptransform-37']\n\n"
    "passed through:\n==>\n    dist_proc/dax/workflow/worker/fnapi_service_impl.cc:1348"
)
ATTEMPTS = "The job failed because a work item has failed 4 times. The work item was attempted on:"


@pytest.fixture(autouse=True)
def static_ffmpeg() -> None:
    """Another ffmpeg than the workers' is refused before a job is submitted."""
    try:
        same = ffmpeg.version() == ffmpeg.static_version()
    except UserError:
        same = False
    if not same:
        pytest.skip("needs the extra `ffmpeg`, and no other ffmpeg on PATH")


def counter(name: str, value: int) -> list[dict[str, Any]]:
    """A counter as the service lists it: with and without the work that is not committed."""
    context = {"step": "s1", "namespace": "stemforge"}
    return [
        {"scalar": value, "name": {"origin": "user", "name": name, "context": context | more}}
        for more in ({}, {"tentative": "true"})
    ]


@dataclass
class Service:
    """What the fake plays.

    Attributes:
        states: of the job, one for each time that it is asked for; the last one stays. A number
            is the status of a refusal.
        messages: of the job: importance and text.
        refusal: status and message of the answer to the job's creation.
        silent: how often there are no messages yet.
        metrics: of the job.
        may_cancel: whether the job's state may be set.
        job: what was submitted.
        requested: states that were asked for.
        asked: paths of all requests.
        url: of the project's jobs.
    """

    states: list[str]
    messages: list[tuple[str, str]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    silent: int = 0
    metrics: list[dict[str, Any]] = field(
        default_factory=lambda: [*counter("tracks", 2), *counter("audio_s", 8)]
    )
    may_cancel: bool = True
    job: dict[str, Any] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        job = {"id": JOB, "name": "stemforge-features"}
        match (method, path.removeprefix(f"{JOBS}/{JOB}")):
            case ("POST", _):
                self.job = body
                if self.refusal:
                    return refusal(*self.refusal)
                return 200, job | {"clientRequestId": body["clientRequestId"]}
            case ("PUT", ""):
                self.requested.append(DataflowState(body["requestedState"]).name)
                return (200, job) if self.may_cancel else refusal(403, "no")
            case ("GET", ""):
                state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                if state.isdecimal():
                    return refusal(int(state), "no")
                if state == "JOB_STATE_DONE" and "done" not in self.job:
                    self.work()
                return 200, job | {"currentState": state}
            case ("GET", "/messages"):
                self.silent -= 1
                return 200, {"jobMessages": [] if self.silent >= 0 else self.listed()}
            case ("GET", "/metrics"):
                return 200, {"metrics": self.metrics}
        return refusal(404, f"{method} {path}")

    def listed(self) -> list[dict[str, str]]:
        return [
            {
                "id": str(number),
                "time": f"2026-11-26T01:02:0{number}Z",
                "messageImportance": f"JOB_MESSAGE_{importance}",
                "messageText": text,
            }
            for number, (importance, text) in enumerate(self.messages)
            if importance in ("WARNING", "ERROR")  # as it was asked for
        ]

    def work(self) -> None:
        """Executes the staged pipeline once, in this process instead of the image."""
        self.job["done"] = True
        staged = self.job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        proto = beam_runner_api_pb2.Pipeline.FromString(storage.read_bytes(staged))
        for one in proto.components.environments.values():
            one.urn, one.payload = python_urns.EMBEDDED_PYTHON, b""
        FnApiRunner().run_via_runner_api(proto, PipelineOptions([])).wait_until_finish()


def refusal(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": status, "message": message}}


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            status, answer = service.answer(self.command, path, json.loads(body or b"{}"))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do

        def log_message(self, *_: object) -> None:
            """The test's own record is enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://localhost:{server.server_port}{JOBS}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield service
        server.shutdown()


def change_params(project: Path, original: Path, old: str, new: str) -> None:
    text = original.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (project / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def bucket(tiny_corpus: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with params.yaml, and a local gs:// with a corpus."""
    # Songs of 4 s have no longer blocks.
    change_params(in_tmp, ROOT / "params.yaml", "block_frames: 512", "block_frames: 32")
    with google_storage(monkeypatch):
        for path in tiny_corpus.rglob("*.stem.mp4"):
            storage.upload(path, f"gs://bucket/corpus/{path.relative_to(tiny_corpus)}")
        yield


def command(service: Service, *more: str) -> list[str]:
    return [
        "features", "--corpus", "gs://bucket/corpus", "--output", "gs://bucket/features",
        "--runner=DataflowRunner", "--project=project", "--region=europe-west4",
        "--temp_location=gs://bucket/tmp", "--job_name=stemforge-features", "--no_auth",
        f"--dataflow_endpoint={service.url.removesuffix(JOBS)}", *more,
    ]  # fmt: skip


def refused(service: Service, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line that a failing command ends in; what came before it may be anything."""
    assert main(command(service, *more)) == 2
    *_, line = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("stemforge: error: ")
    return line.removeprefix("stemforge: error: ")


def news(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith(("beam: ", "stemforge: "))]


@contextmanager
def started(arguments: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """A command in a process of its own, at the moment when its job runs."""
    process = subprocess.Popen([*CLI, *arguments], env=environment(), stderr=PIPE, text=True)
    with process:
        try:
            assert process.stderr is not None
            assert any(" runs: " in line for line in process.stderr), "it ended before"
            yield process
        finally:
            process.kill()


def test_a_job_shows_its_page_and_its_warnings_and_is_done(bucket: None) -> None:
    service = Service(
        ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_DONE"],
        [("WARNING", "Network default has no\nrule for tcp:12345"), ("BASIC", "All is well.")],
    )
    with serving(service):
        done = subprocess.run(
            [*CLI, *command(service, *IMAGE)],
            env=environment(), capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert news(done.stderr) == [
        f"beam: job {JOB} runs: {LINK} (Ctrl-C asks to cancel it)",
        "beam: warning: Network default has no rule for tcp:12345",
    ]
    assert "features: train   tracks      2       2  -" in done.stderr
    assert f"jobs/{JOB}/metrics" in {path.partition("europe-west4/")[2] for path in service.asked}

    (pool,) = service.job["environment"]["workerPools"]
    assert pool["workerHarnessContainerImage"] == IMAGE[0].partition("=")[2]
    assert "packages" not in pool
    staged = {storage.name(name) for name in storage.list_files("gs://bucket/tmp")}
    assert staged == {"pipeline.pb"}


def test_a_failed_job_ends_in_its_cause(bucket: None, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [("ERROR", WORKER_ERROR), ("ERROR", WORKER_ERROR), ("ERROR", ATTEMPTS)]
    # The messages come after the state, as they do there.
    with serving(Service(["JOB_STATE_RUNNING", "JOB_STATE_FAILED"], errors, silent=3)) as service:
        assert main(command(service, *IMAGE)) == 2
    assert news(capsys.readouterr().err)[1:] == [
        "beam: error: 3 of 3 tracks of the train split failed",
        f"beam: error: {ATTEMPTS}",
        f"stemforge: error: job {JOB} failed: 3 of 3 tracks of the train split failed: see {LINK}",
    ]


def test_a_job_that_cannot_be_watched_goes_on(
    bucket: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Service(["JOB_STATE_RUNNING", "403"])) as service:
        line = refused(service, capsys, *IMAGE)
    assert line.startswith(f"job {JOB} goes on, but cannot be watched from here: 403 GET ")
    assert line.endswith(f": no: see {LINK}; to cancel it: {BY_HAND}")
    assert storage.size("gs://bucket/features/.run")  # for the job's workers


def test_no_defect_leaves_a_job_unseen(bucket: None, capsys: pytest.CaptureFixture[str]) -> None:
    # Beam cannot read a counter of which it sees only one half.
    service = Service(["JOB_STATE_RUNNING"], metrics=counter("tracks", 2)[:1])
    with serving(service):
        assert main(command(service, *IMAGE)) == 2
    stderr = capsys.readouterr().err
    assert "\nKeyError: " in stderr
    last = f"stemforge: error: job {JOB} goes on, and costs: to cancel it: {BY_HAND}"
    assert news(stderr)[-1] == last


def test_what_is_refused(
    bucket: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    disabled = "Dataflow API has not been used in project 1 before or it is disabled."
    with serving(Service([], refusal=(403, disabled))) as service:
        line = refused(service, capsys, *IMAGE)
        assert line.startswith("Dataflow: refused with 403: ")
        advice = "enable the APIs and give this account the roles of docs/dataflow.md"
        assert line.endswith(f": {disabled}: {advice}")
        # Beam would log the same once more.
        assert [one for one in caplog.records if one.name.startswith("apache_beam")] == []
        line = refused(service, capsys, *IMAGE, "--dry_run=True")
        assert line == "--dry_run: would run nothing: remove it"
        line = refused(service, capsys, *IMAGE, "--staging_location=gs://nobody/staging")
    assert line.startswith("gs://nobody/staging: refused with 404: ")
    assert line.endswith(": correct --project, --region and the bucket")


@pytest.mark.parametrize(
    ("number", "code", "allowed", "ending", "last"),
    [
        (
            signal.SIGINT, 2, True, f"is being cancelled: see {LINK}",
            "stemforge: error: interrupted",
        ),
        (
            signal.SIGTERM, 143, False, f"goes on, and costs: to cancel it: {BY_HAND}",
            "stemforge: ended by SIGTERM",
        ),
    ],
)  # fmt: skip
def test_a_signal_cancels_the_job(
    bucket: None, number: int, code: int, allowed: bool, ending: str, last: str
) -> None:
    service = Service(["JOB_STATE_RUNNING"], may_cancel=allowed)
    with serving(service), started(command(service, *IMAGE)) as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code
    lines = news(stderr)
    assert lines[0] == f"beam: cancelling job {JOB}"
    stays = [line for line in stderr.splitlines() if line.startswith("features: gs://")]
    assert lines[-2:] == [f"beam: job {JOB} {ending}", last]
    token = "gs://bucket/features/.run"
    assert bool(storage.size(token)) is not allowed
    told = f"features: {token} stays, for the job's workers: if the job fails, remove it"
    assert stays == ([] if allowed else [told])
    assert service.requested == ["JOB_STATE_CANCELLED"]


@contextmanager
def job_service() -> Iterator[int]:
    port = free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    with server(port, sys.executable, "-m", module, "--port", str(port)):
        yield port


def portable(port: int, *more: str) -> list[str]:
    return [
        "features", "--corpus", "gs://bucket/corpus", "--output", "gs://bucket/features",
        "--runner=PortableRunner", f"--job_endpoint=localhost:{port}",
        "--environment_type=LOOPBACK", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_portable_job_is_cancelled_and_its_late_failure_has_a_cause(
    bucket: None, in_tmp: Path
) -> None:
    with job_service() as port:
        with started(portable(port)) as process:
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 2
        jobs = beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(f"localhost:{port}"))
        (job,) = jobs.GetJobs(beam_job_api_pb2.GetJobsRequest()).job_info
        request = beam_job_api_pb2.GetJobStateRequest(job_id=job.job_id)
        states = [event.state for event in jobs.GetStateStream(request)]
        assert beam_job_api_pb2.JobState.CANCELLED in states
        assert news(stderr)[-2:] == [
            f"beam: job {job.job_id} is left by the job service at localhost:{port}; Flink may run "
            "it on: cancel it on the cluster's own page",
            "stemforge: error: interrupted",
        ]
        assert storage.size("gs://bucket/features/.run")  # Flink may run the job on
        storage.remove("gs://bucket/features/.run")

        change_params(in_tmp, in_tmp / "params.yaml", "min_duration_s: 1.0", "min_duration_s: 99.0")
        # Beam's own stream of messages is cut after this time, which a real job exceeds.
        done = subprocess.run(
            [*CLI, *portable(port, "--job_server_timeout=2")],
            env=environment(), capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
    assert done.returncode == 2
    cause = ": no valid track in the train split (of 2; rejects: "
    assert cause in news(done.stderr)[-1]
    assert any(line.startswith("beam: error: ") and cause[2:] in line for line in news(done.stderr))


def test_a_job_service_that_is_not_there(bucket: None, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(portable(port, "--job_server_timeout=1")) == 2
    *_, line = capsys.readouterr().err.splitlines()
    why = "start it, or correct the flag"
    assert line == f"stemforge: error: --job_endpoint: no answer from localhost:{port}: {why}"


def test_flags_that_dataflow_needs(in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"option: project\.") as caught:
        pipeline_options(["--runner=DataflowRunner"])
    assert "Missing GCS path option: temp_location." in str(caught.value)


def test_beam_knows_the_flags_of_the_page() -> None:
    page = (ROOT / "docs" / "dataflow.md").read_text(encoding="utf-8").replace("\\\n", " ")
    variables = {"PROJECT": "project", "REGION": "europe-west4", "BUCKET": "gs://bucket"}
    for name, value in variables.items():
        page = page.replace(f"${name}", value)
    commands = [
        shlex.split(line) for line in page.splitlines() if line.startswith("    stemforge ")
    ]
    jobs = [words[1:] for words in commands if "--runner=DataflowRunner" in words]
    assert len(jobs) == 2
    shown = set()
    for words in jobs:
        _, flags = build_parser().parse_known_args(words)
        shown |= {flag.partition("=")[0] for flag in flags}
        options = pipeline_options(flags)  # refuses what Beam does not know
        assert options.view_as(WorkerOptions).sdk_container_image == "$IMAGE"
        assert options.get_all_options(drop_default=True).keys() >= {"region", "project"}
    # Flags in the text are those of the commands, or Beam's as well.
    told = set(re.findall(r"`(--[a-z_]+)", page)) - shown
    pipeline_options([*(f"{name}=a:1" for name in told - {"--runner"}), *flags])
