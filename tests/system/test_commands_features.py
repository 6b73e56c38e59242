"""The feature job as people run it: on other runners, from stem files, to and from gs://.

The oracle is byte equality with what the in-process runner makes of decoded files.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stemforge import storage
from tests.factories import STEMS
from tests.processes import CLI, LIMIT_S, environment, free_port, google_storage, server, stemforge

pytestmark = pytest.mark.system
TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With features made in process from decoded files, the reference."""
    return Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("features") / "project"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_same(project: Path, other: Path) -> None:
    reference, found = contents(project / "data" / "features"), contents(other)
    assert found.keys() == reference.keys()
    assert len(found) == 2 + 3 * (1 + 1 + len(STEMS) + 1)  # shards of index, sources and phase
    assert [name for name in found if found[name] != reference[name]] == []


def test_only_features_are_replaced(project: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    failed = stemforge(project, "features", "--output", str(tmp_path), code=2)
    assert "holds other files but no info.json" in failed.stderr
    assert (tmp_path / "precious").exists()


def test_a_misspelt_flag_is_refused(project: Path, tmp_path: Path) -> None:
    failed = stemforge(project, "features", "--ouput", str(tmp_path / "f"), code=2)
    assert "--ouput: neither a flag of this command nor one of Beam's" in failed.stderr


def test_verify_tells_what_is_wrong(project: Path, tmp_path: Path) -> None:
    def verify(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [
            sys.executable,
            "-c",
            "from stemforge.pipelines.commands.main import run; run()",
            "verify",
        ]
        return subprocess.run(
            [*command, *arguments], cwd=project, capture_output=True, text=True, timeout=LIMIT_S
        )

    shutil.copytree(project / "data" / "features", tmp_path / "copy")
    good = verify("data/features", "--compare", str(tmp_path / "copy"))
    assert good.returncode == 0, good.stderr
    assert f"as info.json says, the same as {tmp_path / 'copy'}" in good.stdout
    path = next((tmp_path / "copy" / "valid").glob("drums-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    bad = verify(str(tmp_path / "copy"), "--compare", "data/features")
    assert bad.returncode == 2
    assert f"valid/{path.name}: its sha256 is not that of info.json" in bad.stdout
    nothing = verify(str(tmp_path))
    assert nothing.returncode == 2
    assert "no info.json in it: not a finished features folder" in nothing.stderr


@contextmanager
def portable_runner() -> Iterator[tuple[str, ...]]:
    """Flags for a job service and a worker pool, each a process of its own."""
    module = [sys.executable, "-m"]
    job, pool = free_port(), free_port()
    service = "apache_beam.runners.portability.local_job_service_main"
    workers = "apache_beam.runners.worker.worker_pool_main"
    with (
        server(job, *module, service, "--port", str(job)),
        server(pool, *module, workers, "--service_port", str(pool)),
    ):
        yield (
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool}",
        )


def test_two_processes_make_the_same_bytes(project: Path, tmp_path: Path) -> None:
    stemforge(project, "features", "--output", str(tmp_path / "f"), *TWO_PROCESSES)
    assert_same(project, tmp_path / "f")


def test_a_portable_job_service_makes_the_same_bytes(project: Path, tmp_path: Path) -> None:
    with portable_runner() as flags:
        stemforge(project, "features", "--output", str(tmp_path / "f"), *flags)
        assert_same(project, tmp_path / "f")
        failed = stemforge(
            project, "features", "--output", str(tmp_path / "g"), "--audio", str(tmp_path),
            *flags, code=2,
        )  # fmt: skip
    (line,) = (x for x in failed.stderr.splitlines() if x.startswith("stemforge: error: "))
    assert "2 of 2 tracks of the train split failed, more than" in line
    assert "while running" not in line
    assert not (tmp_path / "g").exists()


def test_decoding_inside_the_job_makes_the_same_bytes(
    project: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    done = stemforge(
        project, "features", "--corpus", str(tiny_corpus), "--output", str(tmp_path / "f")
    )
    assert_same(project, tmp_path / "f")
    assert "features: train   tracks      2       2  -" in done.stderr


def test_from_gs_to_gs(
    project: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with google_storage(monkeypatch):
        for path in tiny_corpus.rglob("*.stem.mp4"):
            name = path.relative_to(tiny_corpus).as_posix()
            storage.upload(path, f"gs://bucket/corpus/{name}")
        for path in (project / "data" / "decoded").rglob("*.wav"):
            name = path.relative_to(project / "data" / "decoded").as_posix()
            storage.upload(path, f"gs://bucket/wav/{name}")
        for flag, place in (("--corpus", "gs://bucket/corpus"), ("--audio", "gs://bucket/wav")):
            features = f"gs://bucket/{flag.strip('-')}-features"
            stemforge(project, "features", flag, place, "--output", features)
            copy = tmp_path / flag
            for name in storage.list_files(features):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                (copy / name).write_bytes(storage.read_bytes(f"{features}/{name}"))
            assert_same(project, copy)
        nowhere = stemforge(
            project, "features", "--corpus", "gs://bucket/nowhere", "--output", features,
            code=2,
        )  # fmt: skip
        no_bucket = stemforge(
            project, "features", "--corpus", "gs://none/corpus", "--output", features,
            code=2,
        )  # fmt: skip
    assert nowhere.stderr.strip().endswith("corpus.root=gs://bucket/nowhere: no such folder")
    assert no_bucket.stderr.endswith(
        "stemforge: error: gs://none/corpus: cannot be reached or read: no such bucket\n"
    )


def workers(process: int) -> list[int]:
    """Beam's worker processes below a process, and the shells that started them."""
    below, found = {process}, []
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
        with suppress(OSError):  # ended meanwhile
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent in below:
                below.add(int(entry.name))
                if b"sdk_worker_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def test_a_worker_killed_midway_leaves_no_features(project: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(project, tmp_path / "project"))
    shutil.rmtree(copy / "data" / "features")
    # A pipe in place of a song: its worker waits in the middle of a shard.
    song = next((copy / "data/decoded/train").iterdir()) / "drums.wav"
    song.rename(tmp_path / "drums.wav")
    os.mkfifo(song)
    process = subprocess.Popen(
        [*CLI, "features", *TWO_PROCESSES],
        cwd=copy, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT_S
        while not list(copy.glob(".work/features/*/features/train/.*.tmp")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGKILL)
        _, printed = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 2, printed
    assert "a Beam worker ended before its work was done" in printed.splitlines()[-1]
    assert not (copy / "data" / "features").exists()
    song.unlink()
    shutil.move(tmp_path / "drums.wav", song)
    stemforge(copy, "features")
    assert_same(project, copy / "data" / "features")
