"""Stage copies in several processes, killed and resumed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemforge.pipelines.console import run_main
from stemforge.pipelines.paths import COPIES
from stemforge.pipelines.stages import copies
from tests.factories import make_project, set_params
from tests.processes import LIMIT_S, environment
from tests.test_stages_copies import again, hashes

pytestmark = pytest.mark.system
STAGE = (sys.executable, "-m", "stemforge.pipelines.stages.copies")
FLAGS = "--direct_running_mode=multi_processing --direct_num_workers=2"


def test_a_killed_run_resumes_and_writes_the_bytes_of_one_process(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    decoded = make_project(tmp_path / "decoded", tiny_corpus)
    set_params(decoded, copies__per_song=8)
    with contextlib.chdir(again(decoded, tmp_path / "one")):
        assert run_main(copies.main) == 0
        wanted = hashes(COPIES)
    root = again(decoded, tmp_path / "many")
    variables = environment(STEMFORGE_BEAM_ARGS=FLAGS)
    deadline = time.monotonic() + LIMIT_S
    with subprocess.Popen(STAGE, cwd=root, env=variables, start_new_session=True) as process:
        while not (made := [*root.glob(".work/copies/*/rows/*.json")]):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)  # with its workers
    assert not (root / COPIES).exists()
    assert len([*root.glob(".work/copies/*/rows/*.json")]) < 16
    before = {path.stat().st_ino for path in (root / ".work").rglob("copies/train/*/*/[!.]*.wav")}
    done = subprocess.run(STAGE, cwd=root, env=variables, timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    assert hashes(root / COPIES) == wanted
    # What was finished is not made again: its files are the same ones.
    after = {path.stat().st_ino for path in (root / COPIES).rglob("*.wav")}
    assert len(after & before) >= 3 * len(made)
