"""Streams of any encoding or none, and signals, in every command."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stemforge.pipelines.console import print_json, run_main, say
from stemforge.unfinished import finishing
from tests.conftest import ROOT

NAME = os.fsdecode(b"caf\xe9 \xc3\x9f.wav")  # bytes of two encodings, as some archives make them


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", b"caf\\udce9 \\xdf.wav"), ("utf-8", b"caf\\udce9 \xc3\x9f.wav")],
)
def test_streams_take_any_text(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: bytes
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    def work() -> None:
        say(NAME)
        print_json({"song": NAME})

    assert run_main(work) == 0
    err.flush()
    found = [stream.buffer.getvalue() for stream in (out, err)]
    assert found[1] == printed + b"\n"
    assert json.loads(found[0].decode(encoding)) == {"song": NAME}


def test_closed_streams_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    read = []

    def work() -> None:
        say(NAME)
        print(NAME)
        read.append(sys.stdin.read())

    assert run_main(work) == 0
    assert read == [""]


def test_a_name_that_is_not_utf8_where_it_must_be_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(lambda: NAME.encode()) == 2
    said = capsys.readouterr().err
    assert said == "stemforge: error: caf\\udce9 ß.wav: a name that is not UTF-8: rename it\n"
    with pytest.raises(UnicodeEncodeError):  # a fault of ours
        run_main(lambda: "ß".encode("ascii"))


def test_a_full_disk_behind_standard_output_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_main(lambda: print("result")) == 2
    said = capsys.readouterr().err
    assert said == "stemforge: error: standard output: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_what_is_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def work() -> None:
        with finishing(tmp_path / "song") as temporary:
            temporary.write_text("half")
            try:
                os.kill(os.getpid(), number)
            except Exception:
                pytest.fail("a library may take it for an error of its own")
            except BaseException as error:
                raise RuntimeError("[while running 'Write']") from error  # as Beam does

    assert run_main(work) == 128 + number
    assert capsys.readouterr().err == f"stemforge: ended by {number.name}\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == signal.SIG_DFL


def test_ignored_signals_stay_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert run_main(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.system
def test_a_closed_streams_number_goes_to_no_file(tmp_path: Path) -> None:
    """Else a library's message would be written into the next file that is opened."""
    script = (
        "import os, sys\n"
        "from stemforge.pipelines.console import run_main\n"
        "def work():\n"
        "    assert all(map(os.get_inheritable, range(3)))\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        os.write(2, b'a message from C')\n"
        "        file.write('music')\n"
        "sys.exit(run_main(work))"
    )
    command = shlex.join([sys.executable, "-c", script, str(tmp_path / "song")])
    done = subprocess.run(f"{command} <&- >&- 2>&-", shell=True, cwd=ROOT)
    assert done.returncode == 0
    assert (tmp_path / "song").read_text() == "music"
