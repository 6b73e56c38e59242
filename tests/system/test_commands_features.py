"""The feature job as people run it: on other runners, from stem files, to and from gs://.

The oracle is byte equality with what the in-process runner makes of decoded files.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy.flink import isolation
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


def upload(folder: Path, place: str) -> None:
    for path in filter(Path.is_file, folder.rglob("*")):
        storage.upload(path, f"{place}/{path.relative_to(folder).as_posix()}")


def download(place: str, folder: Path) -> Path:
    for name in storage.list_files(place, hidden=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(storage.read_bytes(f"{place}/{name}"))
    return folder


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


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> isolation.Workers:
    """Workers with a stemforge of their own, which see neither the checkout nor the project."""
    if not isolation.namespace():
        pytest.skip("this system allows no mount namespace, which hides this machine's folders")
    workers = isolation.Workers(tmp_path_factory.mktemp("workers"))
    workers.install()
    return workers


@contextmanager
def portable_runner(workers: isolation.Workers, *hidden: Path) -> Iterator[tuple[str, ...]]:
    """Flags for a job service and a worker pool, each a process of its own."""
    job, pool = free_port(), free_port()
    service = "apache_beam.runners.portability.local_job_service_main"
    command = workers.command(pool, hidden=hidden)
    with (
        server(job, sys.executable, "-m", service, "--port", str(job)),
        server(pool, *command, variables=workers.environment()),
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


def error_line(failed: "subprocess.CompletedProcess[str]") -> str:
    (line,) = (x for x in failed.stderr.splitlines() if x.startswith("stemforge: error: "))
    assert "while running" not in line
    return line.removeprefix("stemforge: error: ")


def test_workers_elsewhere_make_the_same_bytes(
    project: Path, tiny_corpus: Path, elsewhere: isolation.Workers, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    corpus, place = "gs://bucket/corpus", "gs://bucket/features"
    hidden = (project, tiny_corpus, tmp_path)
    with google_storage(monkeypatch), portable_runner(elsewhere, *hidden) as flags:
        upload(tiny_corpus, corpus)
        # What a run of another number of shards left there, and one that was killed.
        for name in ("train/vocals-00008-of-00009.tfrecord", "valid/.index.1.tmp"):
            storage.write_bytes(f"{place}/{name}", b"old")
        stemforge(project, "features", "--corpus", corpus, "--output", place, *flags)
        assert_same(project, download(place, tmp_path / "f"))

        # Workers of another state of the code, though of the same version.
        module = elsewhere.packages / "stemforge" / "features" / "signal" / "stft.py"
        code = module.read_bytes()
        module.write_bytes(code + b"# edited\n")
        other = stemforge(
            project, "features", "--corpus", corpus, "--output", "gs://bucket/g", *flags, code=2
        )
        module.write_bytes(code)
        # A folder that exists here alone.
        blind = stemforge(
            project, "features", "--corpus", corpus, "--output", str(tmp_path / "g"), *flags, code=2
        )
        assert storage.list_files("gs://bucket/g", hidden=True) == []
    assert re.fullmatch(
        rf"job \S+ failed: worker {socket.gethostname()}: stemforge's code \w+, but the launcher "
        r"has \w+: use the image or set-up of the same versions: see the job service at \S+:\d+",
        error_line(other),
    )
    assert "the launcher's file .run is not in it: it is another machine's" in error_line(blind)
    assert not (tmp_path / "g").exists()


def test_decoding_inside_the_job_makes_the_same_bytes(
    project: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    done = stemforge(
        project, "features", "--corpus", str(tiny_corpus), "--output", str(tmp_path / "f")
    )
    assert_same(project, tmp_path / "f")
    assert "features: train   tracks      2       2  -" in done.stderr


def test_from_gs_to_gs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with google_storage(monkeypatch):
        upload(project / "data" / "decoded", "gs://bucket/wav")
        features = "gs://bucket/features"
        stemforge(project, "features", "--audio", "gs://bucket/wav", "--output", features)
        assert_same(project, download(features, tmp_path / "f"))
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
