"""Runs Beam jobs: Beam's options and their defaults, what workers install, where a job runs."""

import argparse
import atexit
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.runner import PipelineState

from stemforge.errors import UserError, needs
from stemforge.pipelines.running.beam_jobs import follow, known_cause
from stemforge.pipelines.running.beam_portable import portable_job
from stemforge.pipelines.running.beam_workers import end_with_workers
from stemforge.pipelines.running.extras import closure
from stemforge.pipelines.running.parallel import BEAM_ARGS
from stemforge.pipelines.running.work import time_to_cancel

# It starts at once, in this process; DirectRunner would first try to download another runner.
LOCAL_RUNNER = "FnApiRunner"
# Starting worker processes takes five seconds, which pays off from an hour of music on.
PARALLEL_FROM_S = 3600.0


def pipeline_options(arguments: Sequence[str], *, audio_s: float = 0.0) -> PipelineOptions:
    """Options for a Beam pipeline.

    Args:
        arguments: Beam flags from the command line; they override those of
            STEMFORGE_BEAM_ARGS.
        audio_s: length of the music; from an hour on, the default is a process per CPU.

    Returns:
        Options. Remote runners get what their workers need: this checkout's package and the
        packages of its `features`, `ffmpeg` and `gs` extras; with --sdk_container_image, which
        holds all that, nothing.

    Raises:
        UserError: an unknown flag, a runner that loses data, or a remote runner outside a
            checkout or without a flag that it needs.
    """
    flags = [*shlex.split(os.environ.get(BEAM_ARGS, "")), *arguments]
    if any("DaskRunner" in flag for flag in flags):
        raise UserError(f"{BEAM_ARGS}: DaskRunner drops data silently: choose another runner")
    options = PipelineOptions(flags, save_main_session=False)
    _refuse_unknown(options, flags)
    if options.view_as(StandardOptions).runner is None:
        options.view_as(StandardOptions).runner = LOCAL_RUNNER
        if audio_s >= PARALLEL_FROM_S and not any("direct_" in flag for flag in flags):
            options.view_as(DirectOptions).direct_running_mode = "multi_processing"
            options.view_as(DirectOptions).direct_num_workers = os.cpu_count() or 1
    if is_remote(options):
        _prepare_remote(options)
    return options


def _refuse_unknown(options: PipelineOptions, flags: Sequence[str]) -> None:
    """Refuses unknown flags, such as misspelt ones; Beam would ignore them."""
    if "Portable" in str(options.view_as(StandardOptions).runner):
        return  # the job service may have its own flags

    def refuse(parser: argparse.ArgumentParser) -> None:
        _, unknown = parser.parse_known_args(flags)
        if unknown:
            raise UserError(
                f"{unknown[0]}: neither a flag of this command nor one of Beam's: correct or "
                "remove it"
            )

    options.get_all_options(add_extra_args_fn=refuse)  # called with the parser of all flags


def is_remote(options: PipelineOptions) -> bool:
    """True where the workers are other machines, on which our package must be installed."""
    return "Dataflow" in str(options.view_as(StandardOptions).runner)


def _prepare_remote(options: PipelineOptions) -> None:
    with needs("gcp", what="--runner=DataflowRunner"):
        from stemforge.pipelines.running.dataflow import check_flags
    check_flags(options)
    workers = options.view_as(WorkerOptions)
    if workers.sdk_container_image or workers.worker_harness_container_image:
        # Even the list of this machine's packages, which Beam would stage for its log.
        options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")
    else:
        _stage_package(options.view_as(SetupOptions))


def _stage_package(setup: SetupOptions) -> None:
    if setup.setup_file is None:
        pyproject = Path("pyproject.toml").resolve()
        if not pyproject.is_file():
            raise UserError(
                "pyproject.toml: no such file: start remote runners in a checkout, whose "
                "package the workers install, or give --setup_file or --sdk_container_image"
            )
        setup.setup_file = str(pyproject)
    if setup.requirements_file is None:
        folder = Path(tempfile.mkdtemp(prefix="stemforge-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(worker_requirements()) + "\n", encoding="utf-8")
        setup.requirements_file = str(requirements)
        setup.requirements_cache = "skip"  # the workers install it themselves


def worker_requirements() -> list[str]:
    """All packages that workers need beside our own, in this machine's versions.

    Those of the `features`, `ffmpeg` and `gs` extras and all that these need: with the same
    packages, workers compute the same bytes. Not what only submits a job.
    """
    return [str(requirement) for requirement in closure("features", "ffmpeg", "gs")]


def run_pipeline(pipeline: beam.Pipeline, *, watch: Callable[[dict[str, int]], object]) -> None:
    """Runs a pipeline to its end.

    Args:
        pipeline: complete.
        watch: called every few seconds with the job's counters, if the runner works in the
            background.

    Raises:
        UserError: the job failed; the text is a worker's UserError where there was one.
    """
    options = pipeline.options
    if is_remote(options):
        from stemforge.pipelines.running.dataflow import run_on_dataflow

        with time_to_cancel():
            run_on_dataflow(pipeline, watch=watch)
        return
    service = options.view_as(PortableOptions).job_endpoint or "the runner's own job service"
    try:
        with end_with_workers():
            result = pipeline.run()
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise UserError(
            f"--job_endpoint: no answer from {service}: start it, or correct the flag"
        ) from error
    except (RuntimeError, OSError) as error:
        known = known_cause(f"{type(error).__name__}: {error}")
        if known is None:
            raise
        raise UserError(known) from error
    if isinstance(result, portable_runner.PipelineResult):
        with time_to_cancel():
            follow(portable_job(result, service), watch=watch)
    elif result.state != PipelineState.DONE:
        raise UserError(f"the Beam job ended as {result.state}, not done: see the runner's log")
