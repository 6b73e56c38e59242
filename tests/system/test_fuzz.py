"""Minutes of damaged files for each reader, in a process with bounded memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fuzzing import LIMIT_S, READERS
from tests.test_fuzz import VALID

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Other cases with another --fuzz-seed."""
    seconds, seed = map(request.config.getoption, ("--fuzz-s", "--fuzz-seed"))
    valid = tmp_path / "valid"
    valid.mkdir()
    VALID[name](valid)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzzing",
            name,
            valid,
            str(seconds),
            str(seed),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + 10 * LIMIT_S,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert int(done.stdout.split()[0]) > seconds / 10
