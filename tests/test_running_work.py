"""How a stage ends when the `dvc repro` that started it was killed."""

import subprocess
import sys

import pytest

# A parent that starts a stage's process and is gone at once.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
"""
CHILD = """
import contextlib, sys, time
from stemforge.pipelines.console import Ended, run_main
from stemforge.pipelines.running.work import end_with_parent, time_to_cancel

def main():
    end_with_parent()
    with {context}:
        print(flush=True)
        try:
            time.sleep(60)
        except Ended:
            print("cancelled", file=sys.stderr, flush=True)
            raise

raise SystemExit(run_main(main))
"""


@pytest.mark.parametrize(
    ("context", "said"),
    [("time_to_cancel()", "cancelled"), ("contextlib.nullcontext()", "")],
)
def test_a_stage_cancels_its_job_elsewhere_before_it_ends_with_its_parent(
    context: str, said: str
) -> None:
    # The child has the same standard error: it is read until the child has ended too.
    done = subprocess.run(
        [sys.executable, "-c", PARENT, CHILD.format(context=context)],
        stderr=subprocess.PIPE, text=True, timeout=50, check=True,
    )  # fmt: skip
    assert done.stderr.partition("\n")[0] == said
