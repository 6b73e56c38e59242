"""What a worker compares with its launcher, and who may write a features folder."""

import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import apache_beam
import gcsfs
import numpy
import pytest
import scipy
import soundfile

from stemforge import storage
from stemforge.errors import JobGoesOn, UserError
from stemforge.features.audio.ffmpeg import find_program
from stemforge.features.shards import workers
from stemforge.features.shards.workers import launching, refuse_taken, versions


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Versions are looked up once a process; a worker is a process of its own."""
    versions.cache_clear()
    yield
    versions.cache_clear()


def test_versions_are_those_that_the_packages_say() -> None:
    found = versions(decodes=True)
    assert found["numpy"] == numpy.__version__
    assert found["scipy"] == scipy.__version__
    assert found["soundfile"] == soundfile.__version__
    assert found["apache-beam"] == apache_beam.__version__
    assert platform.python_version().startswith(f"{found['Python']}.")
    said = subprocess.check_output([find_program("ffmpeg"), "-version"], text=True)
    assert said.startswith(f"ffmpeg version {found['ffmpeg']} ")
    assert "ffmpeg" not in versions(decodes=False)


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with launching(str(tmp_path / "f"), decodes=False) as launcher:
        launcher.check()
        # What pip leaves of a package: its metadata, found before this environment's.
        about = tmp_path / "site" / "numpy-1.9.9.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.9.9\n")
        monkeypatch.syspath_prepend(about.parent)
        versions.cache_clear()
        with pytest.raises(UserError) as error:
            launcher.check()
    assert str(error.value) == (
        f"worker {socket.gethostname()}: numpy 1.9.9, but the launcher has {numpy.__version__}: "
        "use the image or set-up of the same versions"
    )


def test_code_counts_and_not_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = versions(decodes=False)["stemforge's code"]
    package = Path(workers.__file__).parents[3] / "stemforge"
    copy = tmp_path / "stemforge"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("stemforge.code.PACKAGE", copy)

    def code() -> str:
        versions.cache_clear()
        return versions(decodes=False)["stemforge's code"]

    assert code() == ours
    for name in ("train/losses/magnitudes.py", "features/corpus/starter.py"):  # no part of the job
        with (copy / name).open("a") as file:
            file.write("# edited\n")
        assert code() == ours
    with (copy / "features" / "signal" / "stft.py").open("a") as file:
        file.write("# edited\n")
    assert code() != ours


def test_a_folder_that_a_worker_does_not_see(tmp_path: Path) -> None:
    inputs = ("gs://b/corpus", str(tmp_path / "decoded"))
    with (
        launching(str(tmp_path / "f"), inputs=inputs, decodes=False) as launcher,
        pytest.raises(UserError, match=r"decoded: no such folder here: name one that all workers"),
    ):
        launcher.check()
    with pytest.raises(UserError, match=r"f: the launcher's file .run is not in it"):
        launcher.check_output()  # the launcher has ended


def test_a_second_launcher_is_refused_while_the_first_works(tmp_path: Path) -> None:
    root = str(tmp_path / "f")
    with launching(root, decodes=False):
        with pytest.raises(UserError) as error, launching(root, decodes=False):
            pytest.fail("two at once")
        assert f"process {os.getpid()}, since 20" in str(error.value)
        assert str(error.value).endswith(f"if it was killed, remove {root}/.run")
    with launching(root, decodes=False):
        pass
    assert list((tmp_path / "f").iterdir()) == []


def test_the_token_of_a_killed_run_of_this_machine_goes(tmp_path: Path) -> None:
    root = str(tmp_path / "f")
    script = (
        "import os, signal, sys; from stemforge.features.shards.workers import launching\n"
        "with launching(sys.argv[1], decodes=False, are_here=sys.argv[2] == 'here'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, root]
    assert subprocess.run([*command, "here"], check=False).returncode == -9
    token = tmp_path / "f" / ".run"
    elsewhere = token.read_text().replace(socket.gethostname(), "another-machine")
    refuse_taken(root)
    assert not token.exists()
    token.write_text(elsewhere)
    with pytest.raises(UserError, match="if it was killed, remove"):
        refuse_taken(root)
    token.unlink()
    subprocess.run([*command, "elsewhere"], check=False)  # a service may still run its job
    with pytest.raises(UserError, match="if its job has ended, remove"):
        refuse_taken(root)


def test_the_token_stays_for_a_job_that_outlives_its_launcher(tmp_path: Path) -> None:
    root = str(tmp_path / "f")
    with (
        pytest.raises(JobGoesOn, match="no connection"),
        launching(root, decodes=False, are_here=False) as launcher,
    ):
        raise JobGoesOn("no connection")
    launcher.check()
    (tmp_path / "f" / "info.json").touch()  # the job has ended well
    refuse_taken(root)
    assert not (tmp_path / "f" / ".run").exists()


def test_a_token_beside_an_info_json_is_of_a_run_that_has_ended(tmp_path: Path) -> None:
    (tmp_path / ".run").touch()
    with pytest.raises(UserError, match="writes features here"):
        refuse_taken(str(tmp_path))
    (tmp_path / "info.json").touch()
    refuse_taken(str(tmp_path))
    assert not (tmp_path / ".run").exists()


def test_old_features_go_and_other_files_stay(tmp_path: Path) -> None:
    old = ("info.json", "rejects.parquet", "train/bass-00003-of-00004.tfrecord",
           "valid/index-00003-of-00004.parquet", "valid/.bass.7.tmp")  # fmt: skip
    others = ("README.txt", "train/cover.png", "test/bass-00003-of-00004.tfrecord")
    for name in (*old, *others):
        storage.write_bytes(str(tmp_path / name), b"x")
    with launching(str(tmp_path), decodes=False):
        assert storage.list_files(str(tmp_path), hidden=True) == sorted([".run", *others])


class Refusing(BaseHTTPRequestHandler):
    """Google's answer to one without rights; there is a bucket, and nothing in it."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = b'{"error": {"code": 403, "message": "no storage.objects.create access"}}'
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


def test_no_rights_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    gcsfs.GCSFileSystem.clear_instance_cache()
    try:
        with pytest.raises(UserError) as error, launching("gs://b/f", decodes=False):
            pytest.fail("no rights")
    finally:
        server.shutdown()
        server.server_close()
        gcsfs.GCSFileSystem.clear_instance_cache()
    assert str(error.value).startswith("gs://b/f/.run: cannot be reached or read: ")
    assert "no storage.objects.create access" in str(error.value)
    root = "/sys/stemforge/f"  # where even root can make no folder
    with pytest.raises(OSError, match="/sys/stemforge"), launching(root, decodes=False):
        pytest.fail("no rights")
