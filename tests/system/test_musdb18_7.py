"""MUSDB18-7 by its name: a download that is killed, and DVC's stages on the corpus."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from stemforge.pipelines.running.musdb18_7 import fetch
from tests.factories import copy_checkout, set_params
from tests.processes import CLI, LIMIT_S, FileServer, environment, file_server
from tests.test_running_musdb18_7 import contents, packed, songs

pytestmark = pytest.mark.system


def test_a_killed_download_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    draw = np.random.default_rng(1)
    files = {name: draw.bytes(8000) for name in songs()}  # 1.15 MB that no zip makes smaller
    part = tmp_path / "MUSDB18" / "..MUSDB18-7.zip.tmp"
    with file_server(FileServer(packed(files), pause_s=0.5)) as server:
        command = [*CLI, "corpus", "musdb18-7", "--url", server.url]
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT_S
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = part.stat().st_size
        assert 0 < done < len(server.data)
        assert not (tmp_path / "MUSDB18" / "MUSDB18-7").exists()
        server.pause_s = 0
        assert contents(fetch(server.url)) == files
    assert server.asked == ["", f"bytes={done}-"]


@pytest.mark.slow
def test_dvc_repro_finds_the_corpus_by_its_name(tmp_path: Path, tiny_corpus: Path) -> None:
    checkout, corpus = tmp_path / "checkout", tmp_path / "MUSDB18" / "MUSDB18-7"
    copy_checkout(checkout)
    shutil.copytree(tiny_corpus, corpus)
    stems = ["vocals", "drums"]
    set_params(checkout, corpus__root="musdb18-7", corpus__stems=stems, models=stems)

    def run(*command: str) -> str:
        variables = environment(HOME=str(tmp_path), PYTHONPATH=str(checkout))
        done = subprocess.run(
            command,
            cwd=checkout,
            env=variables,
            capture_output=True,
            text=True,
            timeout=3 * LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    run("git", "init", "-q")
    text = run("dvc", "repro", "decode")
    assert "musdb18-7: 3 training songs (1 of them validation), 1 test song of 3.0 s" in text
    assert (checkout / "musdb18-7").readlink() == corpus
    run("git", "add", "-A")
    run("git", *someone, "commit", "-q", "-m", "decoded")
    assert "musdb18-7\n" not in run("git", "ls-files")
    assert "Data and pipelines are up to date" in run("dvc", "repro", "decode")

    name = ("--name", "wider", "--set-param", "decode.subtype=PCM_24")
    assert "3 training songs" in run("dvc", "exp", "run", "--temp", *name, "decode")
    assert "wider" in run("dvc", "exp", "list", "--name-only")

    (corpus / "train" / "Song 0.stem.mp4").unlink()
    assert "2 training songs" in run("dvc", "repro", "decode")
