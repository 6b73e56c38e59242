"""Where the feature job's workers are: in processes of this machine, or who knows where."""

import os
from collections.abc import Mapping

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.pipelines.running.beam import is_remote
from stemforge.pipelines.running.parallel import BEAM_ARGS

# Beam's runners whose workers are this process, or processes that it starts.
HERE = {"fnapirunner", "directrunner", "bundlebaseddirectrunner", "switchingdirectrunner"}


def are_here(options: PipelineOptions) -> bool:
    """Whether all workers are processes of this machine, which see its files.

    Those of other runners may be anywhere: progress then comes from the job's metrics.
    """
    name = str(options.view_as(StandardOptions).runner).rpartition(".")[2].lower()
    return bool({name, f"{name}runner"} & HERE)  # Beam takes "direct" for "DirectRunner"


def refuse_local_places(options: PipelineOptions, places: Mapping[str, str]) -> None:
    """Refuses folders of this machine where workers are other machines for certain.

    Workers of portable runners may share a disk with this machine: they look for themselves.

    Args:
        options: of the job.
        places: that workers read or write, with what to do where one is local.

    Raises:
        UserError: one is no URL.
    """
    if not is_remote(options):
        return
    unset = f", or unset {BEAM_ARGS}" if os.environ.get(BEAM_ARGS) else ""
    for place, advice in places.items():
        if storage.is_local(place):
            raise UserError(
                f"{place}: a folder of this machine, which Dataflow's workers cannot see: "
                f"{advice}{unset}"
            )


def check_ffmpeg(options: PipelineOptions) -> None:
    """Refuses another ffmpeg than that of Dataflow's workers, who would refuse it one by one.

    Raises:
        UserError: this machine's is not the static build, or that is not installed.
    """
    if not is_remote(options):
        return
    here = ffmpeg.version()
    try:
        there = ffmpeg.static_version()
    except UserError:
        raise UserError(
            "Dataflow's workers decode with the static ffmpeg, which is not installed here to "
            "compare with: pip install 'stemforge[ffmpeg]'"
        ) from None
    if here != there:
        raise UserError(
            f"ffmpeg {here} on PATH: Dataflow's workers decode with the static build {there}: "
            "run this with a PATH that has no ffmpeg"
        )
