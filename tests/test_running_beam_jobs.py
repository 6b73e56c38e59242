"""The cause of a job's failure, found in texts as Beam's services write them."""

import pytest

from stemforge.pipelines.running.beam_jobs import LINE_CHARACTERS, cause, one_line
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
