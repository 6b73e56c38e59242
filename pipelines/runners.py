"""Beam pipeline options: which runner, from STEMFORGE_BEAM_ARGS or the command line."""

import os
import shlex
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import UserError

BEAM_ARGS = "STEMFORGE_BEAM_ARGS"
# In process at once; DirectRunner would first try to download another runner.
DEFAULT = ("--runner=FnApiRunner",)


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Options for a Beam pipeline.

    Args:
        arguments: Beam flags from the command line; they win over the environment's.

    Raises:
        UserError: a runner that loses data.
    """
    flags = [*DEFAULT, *shlex.split(os.environ.get(BEAM_ARGS, "")), *arguments]
    if any("DaskRunner" in flag for flag in flags):
        raise UserError(f"{BEAM_ARGS}: DaskRunner drops data silently: choose another runner")
    return PipelineOptions(flags, save_main_session=False)
