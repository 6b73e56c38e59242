"""gs:// on a server of this machine: what other processes see, and what needs no Beam there."""

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stemforge import storage
from stemforge.errors import UserError
from tests.processes import LIMIT_S, environment, google_storage, stemforge

pytestmark = pytest.mark.system
RESUMABLE_BYTES = 6 * 2**20  # gcsfs uploads from 5 MiB on in several requests


@pytest.fixture(autouse=True)
def bucket() -> Iterator[None]:
    """An empty gs://bucket."""
    with pytest.MonkeyPatch.context() as patch, google_storage(patch):
        yield


def python(script: str, *arguments: str | Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_large_files_arrive_whole(tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(RESUMABLE_BYTES)
    (tmp_path / "song.wav").write_bytes(data)
    storage.upload(tmp_path / "song.wav", "gs://bucket/a/Song #1 100% ä.wav")
    assert storage.list_files("gs://bucket") == ["a/Song #1 100% ä.wav"]
    assert storage.size("gs://bucket/a/Song #1 100% ä.wav") == len(data)
    with storage.local_copy("gs://bucket/a/Song #1 100% ä.wav") as path:
        assert path.read_bytes() == data
    reader = storage.RangeReader("gs://bucket/a/Song #1 100% ä.wav")
    spans = [(offset, 2**16) for offset in range(0, len(data) + 2**16, 2**16)]
    with ThreadPoolExecutor(8) as pool:
        assert b"".join(pool.map(lambda span: reader.read(*span), spans)) == data


def test_what_another_process_wrote_is_seen_at_once(tmp_path: Path) -> None:
    write = "import sys\nfrom stemforge import storage\nstorage.write_bytes(sys.argv[1], b'new')"
    storage.write_bytes("gs://bucket/a/one", b"old")
    assert storage.list_files("gs://bucket/a") == ["one"]
    assert storage.size("gs://bucket/a/two") is None
    for name in ("one", "two"):
        python(write, f"gs://bucket/a/{name}", folder=tmp_path)
        assert storage.read_bytes(f"gs://bucket/a/{name}") == b"new"
        assert storage.size(f"gs://bucket/a/{name}") == 3
    assert storage.list_files("gs://bucket/a") == ["one", "two"]


def test_a_missing_bucket_is_one_line() -> None:
    line = "gs://none/a: cannot be reached or read: no such bucket"
    for work in (storage.read_bytes, storage.size, storage.list_files, storage.remove):
        with pytest.raises(UserError) as raised:
            work("gs://none/a")
        assert str(raised.value) == line
    with pytest.raises(UserError, match=line):
        storage.write_bytes("gs://none/a", b"")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("gs://bucket/a")


FORK = """
import multiprocessing
from stemforge import storage

def read(results):
    results.put((reader.read(3, 4), storage.list_files("gs://bucket/a")))

if __name__ == "__main__":
    storage.write_bytes("gs://bucket/a/x", b"0123456789")
    reader = storage.RangeReader("gs://bucket/a/x")
    assert reader.read(3, 4) == b"3456"
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=read, args=(results,))
    process.start()
    assert results.get(timeout=30) == (b"3456", ["x"])
    process.join()
    assert reader.read(8, 4) == b"89"
"""


def test_a_process_reads_after_a_fork(tmp_path: Path) -> None:
    python(FORK, folder=tmp_path)


def test_a_spawned_process_reads() -> None:
    storage.write_bytes("gs://bucket/x", b"x")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(storage.read_bytes, ("gs://bucket/x",)) == b"x"


WITHOUT_BEAM = """
import sys
sys.modules["apache_beam"] = None
from stemforge.pipelines.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_reading_features_and_training_need_no_beam(tiny_project: Path, tmp_path: Path) -> None:
    """The model is the one that local features give."""
    project = Path(shutil.copytree(tiny_project, tmp_path / "project"))
    stemforge(project, "train", "--stem", "drums")
    local = np.load(project / "models" / "drums" / "weights.npz")
    shutil.rmtree(project / "models")
    shutil.rmtree(project / ".work")
    folder = project / "data" / "features"
    for path in folder.rglob("*.*"):
        storage.upload(path, f"gs://bucket/features/{path.relative_to(folder).as_posix()}")
    shutil.rmtree(folder)
    python(WITHOUT_BEAM, "verify", "gs://bucket/features", folder=project)
    train = ("train", "--stem", "drums", "--features", "gs://bucket/features")
    python(WITHOUT_BEAM, *train, folder=project)
    remote = np.load(project / "models" / "drums" / "weights.npz")
    for name in local.files:
        np.testing.assert_array_equal(local[name], remote[name])
