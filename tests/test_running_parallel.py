import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemforge.errors import UserError
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.parallel import PROCESSES, map_tracks
from stemforge.unfinished import finishing
from tests.conftest import ROOT


def number_and_process(number: int) -> tuple[int, int]:
    return number, os.getpid()


def touch(folder: Path, number: int) -> None:
    if number == 1:
        raise UserError("song 1: damaged")
    (folder / str(number)).touch()


def touch_late(folder: Path, number: int) -> None:
    if number != 1:
        time.sleep(0.2)
    touch(folder, number)


def write_forever(folder: Path, number: int) -> None:
    with finishing(folder / str(number)) as file:
        file.touch()
        time.sleep(LIMIT_S)


def write_all_forever() -> int:
    """Writes four songs, two at once, into the folder that the command line names."""
    jobs = [(f"song {number}", (Path(sys.argv[1]), number)) for number in range(4)]
    return run_main(lambda: map_tracks(write_forever, jobs, label="work", processes=2))


LIMIT_S = 60
NUMBERS = [(f"song {number}", (number,)) for number in range(5)]


def test_one_process_is_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = map_tracks(number_and_process, NUMBERS, label="work", processes=1)
    assert found == [(number, os.getpid()) for number in range(5)]
    printed = capsys.readouterr().err
    assert "work: 5/5 track" in printed
    # So is what has one job, with as many processes as may be.
    one = map_tracks(number_and_process, NUMBERS[3:4], label="work", processes=8)
    assert one == [(3, os.getpid())]
    assert map_tracks(number_and_process, [], label="work") == []


def test_the_first_error_ends_the_others_here(tmp_path: Path) -> None:
    jobs = [(f"song {number}", (tmp_path, number)) for number in range(4)]
    with pytest.raises(UserError, match="song 1: damaged"):
        map_tracks(touch, jobs, label="work", processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.system
def test_two_processes_are_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROCESSES, "2")
        found = map_tracks(number_and_process, NUMBERS, label="work")
    assert [number for number, _ in found] == list(range(5))
    others = {process for _, process in found}
    assert 1 <= len(others) <= 2
    assert os.getpid() not in others
    assert "work: 5/5 track" in capsys.readouterr().err


@pytest.mark.system
def test_the_first_error_ends_the_others_elsewhere(tmp_path: Path) -> None:
    jobs = [(f"song {number}", (tmp_path, number)) for number in range(200)]
    with pytest.raises(UserError, match="song 1: damaged"):
        map_tracks(touch_late, jobs, label="work", processes=2)
    assert len(list(tmp_path.iterdir())) < 100


@pytest.mark.system
def test_a_signal_ends_the_processes_and_removes_what_they_were_writing(tmp_path: Path) -> None:
    script = "import sys; from tests.test_running_parallel import *; sys.exit(write_all_forever())"
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=ROOT) as process:
        deadline = time.monotonic() + LIMIT_S / 2
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=LIMIT_S / 2) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_processes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESSES, text)
    with pytest.raises(
        UserError, match=rf"^STEMFORGE_PROCESSES={text}: must be a whole number from 1 on$"
    ):
        map_tracks(number_and_process, NUMBERS, label="work")
