"""Runs Beam jobs: Beam's options and their defaults, its errors, its metrics."""

import argparse
import importlib.metadata
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineState

from stemforge.errors import UserError
from stemforge.pipelines.running.beam_workers import SAID_BY_JOB, WORKER_DIED, end_with_workers
from stemforge.pipelines.running.extras import requirements
from stemforge.pipelines.running.parallel import BEAM_ARGS

# It starts at once, in this process; DirectRunner would first try to download another runner.
LOCAL_RUNNER = "FnApiRunner"
# Starting worker processes takes five seconds, which pays off from an hour of music on.
PARALLEL_FROM_S = 3600.0
METRICS_POLL_S = 10.0
# Beam wraps an error of a worker in text: "module.Class: message [while running 'Step']".
_USER_ERROR = re.compile(r"(?:UserError|AudioError): (.*?)(?: \[while running|$)", re.MULTILINE)
_SYSTEM_ERROR = re.compile(r"OSError: (\[Errno \d+\].*?)(?: \[while running|$)", re.MULTILINE)


def pipeline_options(arguments: Sequence[str], *, audio_s: float = 0.0) -> PipelineOptions:
    """Options for a Beam pipeline.

    Args:
        arguments: Beam flags from the command line; they override those of
            STEMFORGE_BEAM_ARGS.
        audio_s: length of the music; from an hour on, the default is a process per CPU.

    Returns:
        Options. Remote runners get what their workers need: this checkout's package and the
        packages of its `features`, `ffmpeg` and `gcp` extras.

    Raises:
        UserError: an unknown flag, a runner that loses data, or a remote runner outside a
            checkout.
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
        _stage_package(options.view_as(SetupOptions))
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


def _stage_package(setup: SetupOptions) -> None:
    if setup.setup_file is None:
        pyproject = Path("pyproject.toml").resolve()
        if not pyproject.is_file():
            raise UserError(
                "pyproject.toml: no such file: start remote runners in a checkout, whose "
                "package the workers install, or give --setup_file"
            )
        setup.setup_file = str(pyproject)
    if setup.requirements_file is None:
        requirements = Path(tempfile.mkdtemp(prefix="stemforge-")) / "requirements.txt"
        requirements.write_text("\n".join(worker_requirements()) + "\n", encoding="utf-8")
        setup.requirements_file = str(requirements)
        setup.requirements_cache = "skip"  # the workers install it themselves


def worker_requirements() -> list[str]:
    """Packages for workers, besides our own: the `features`, `ffmpeg` and `gcp` extras.

    They have this machine's versions, so that workers compute the same bytes. A package that this
    machine lacks, such as the static ffmpeg, may have any version that fits.
    """
    pins = []
    for requirement in requirements("features", "ffmpeg", "gcp"):
        try:
            pins.append(f"{requirement.name}=={importlib.metadata.version(requirement.name)}")
        except importlib.metadata.PackageNotFoundError:
            pins.append(f"{requirement.name}{requirement.specifier}")
    return pins


def run_pipeline(pipeline: beam.Pipeline, *, watch: Callable[[dict[str, int]], object]) -> None:
    """Runs a pipeline to its end.

    Args:
        pipeline: complete.
        watch: called every few seconds with the job's counters, if the runner works in the
            background.

    Raises:
        UserError: the job failed; the text is a worker's UserError where there was one.
    """
    try:
        with end_with_workers():
            result = pipeline.run()
        while not PipelineState.is_terminal(result.state):
            time.sleep(METRICS_POLL_S)
            watch(counters(result))
        if result.state != PipelineState.DONE:
            result.wait_until_finish()  # raises the cause, if the runner knows it
            raise UserError(f"the Beam job ended with state {result.state}: see the runner's log")
    except (UserError, RuntimeError, OSError) as error:
        text = f"{type(error).__name__}: {error}"
        for pattern in (_USER_ERROR, _SYSTEM_ERROR):
            if said := pattern.findall(text):
                raise UserError(said[-1]) from error
        if SAID_BY_JOB in text:
            raise UserError(WORKER_DIED) from error
        raise


def counters(result: Any) -> dict[str, int]:
    """The job's counters so far, by name."""
    found = result.metrics().query(MetricsFilter())["counters"]
    return {entry.key.metric.name: int(entry.result) for entry in found}
