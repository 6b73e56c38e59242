"""Several workers as people run them: killed, stopped, interrupted, and started wrong."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from stemforge.pipelines.running.supervisor import free_ports
from tests.factories import set_params, untrained
from tests.processes import CLI, LIMIT_S, environment, google_storage, stemforge

pytestmark = pytest.mark.system
STEPS = 60
# Of the longest runs: a bound against hanging, far above what a slow machine needs.
LONG_S = 5 * LIMIT_S


@pytest.fixture(scope="module")
def original(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With features, a short run in params.yaml, and two workers' model of it."""
    root = untrained(tiny_project, tmp_path_factory.mktemp("cluster") / "project")
    set_params(
        root,
        train__steps=STEPS,
        train__log_every_steps=2,
        train__validate_every_steps=10,
        monitor__checkpoint_every_steps=5,
        train__ema_momentum=0.9,
        train__net__dropout=0.2,
        train__net__norm="batch",
    )
    train_cluster(root)
    return root


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    """The same, untrained."""
    return untrained(original, tmp_path / "project")


COMMAND = [
    sys.executable,
    "-m",
    "stemforge.pipelines.commands.main",
    "train-cluster",
    "--workers",
    "2",
]
TRAIN = ["--", "--stem", "drums"]


def train_cluster(project: Path, *flags: str, code: int = 0, limit_s: float = LIMIT_S) -> str:
    """Runs two workers to their end; returns what was printed."""
    done = subprocess.run(
        [*COMMAND, *flags, *([] if "--" in flags else TRAIN)],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert done.returncode == code, done.stderr
    return done.stderr


@contextmanager
def started(project: Path, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*COMMAND, *flags, *TRAIN],
        cwd=project,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The chief first."""
    found = psutil.Process(process.pid).children()
    return sorted(found, key=lambda worker: worker.pid)


def wait_for_step(project: Path, step: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        names = [path.name for path in project.glob(".work/train-drums/*/checkpoint-*")]
        if any(int(name.removeprefix("checkpoint-")) >= step for name in names):
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_model(project: Path, original: Path) -> None:
    ours, theirs = (
        np.load(root / "models" / "drums" / "weights.npz") for root in (project, original)
    )
    for name in theirs.files:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    history = [(root / "models/drums/history.csv").read_bytes() for root in (project, original)]
    assert history[0] == history[1]


def test_killed_and_stopped_workers_are_started_again(project: Path, original: Path) -> None:
    with started(project, "--heartbeat-timeout", "6") as process:
        wait_for_step(project, 5)
        workers(process)[1].send_signal(signal.SIGKILL)
        wait_for_step(project, 25)
        workers(process)[0].send_signal(signal.SIGSTOP)
        _, printed = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, printed
    assert "worker 1 was ended by SIGKILL: all restart in 1 s" in printed
    assert "worker 0 has not answered for " in printed
    assert_same_model(project, original)
    assert not list(project.glob(".work/cluster-*"))
    assert len(list(project.glob("runs/drums/workers/*.log"))) == 2


@pytest.fixture(scope="module")
def longer(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More steps, so that failures meet them."""
    root = tmp_path_factory.mktemp("longer")
    shutil.copy(original / "params.yaml", root)
    shutil.copytree(original / "data" / "features", root / "data" / "features")
    set_params(root, train__steps=12 * STEPS)
    train_cluster(root, limit_s=LONG_S)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_five_random_failures_change_nothing(project: Path, longer: Path, seed: int) -> None:
    shutil.copy(longer / "params.yaml", project)
    moment = random.Random(seed)
    with started(project, "--heartbeat-timeout", "6") as process:
        for _ in range(5):
            end_s = time.monotonic() + moment.uniform(0.5, 10.0)
            while time.monotonic() < end_s or not workers(process):
                assert process.poll() is None, "done before it was disturbed"
                time.sleep(0.05)
            victim = moment.choice(workers(process))
            victim.send_signal(moment.choice([signal.SIGKILL, signal.SIGSTOP]))
            before = {worker.pid for worker in workers(process)}
            deadline = time.monotonic() + LIMIT_S
            while before & {worker.pid for worker in workers(process)} or not workers(process):
                assert process.poll() is None, "done before it was disturbed"
                assert time.monotonic() < deadline
                time.sleep(0.05)  # until all are started again
        _, printed = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, printed
    assert printed.count("all restart") >= 5
    assert_same_model(project, longer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_after_a_checkpoint(
    project: Path, original: Path, number: signal.Signals
) -> None:
    with started(project) as process:
        wait_for_step(project, 5)
        them = workers(process)
        process.send_signal(number)
        _, printed = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + number, printed
    assert "train-cluster: stopped; the next run resumes from the last checkpoint" in printed
    assert not any(worker.is_running() for worker in them)
    (line,) = (x for x in printed.splitlines() if "train@drums: stopped at step" in x)
    step = int(line.split("stopped at step ")[1].split()[0])
    assert [path.name for path in project.glob(".work/train-drums/*/checkpoint-*")] == [
        f"checkpoint-{step:09d}"
    ]
    if number == signal.SIGINT:
        train_cluster(project)
        assert_same_model(project, original)


def test_workers_go_when_their_supervisor_is_killed(project: Path) -> None:
    with started(project) as process:
        wait_for_step(project, 5)
        them = workers(process)
    _, alive = psutil.wait_procs(them, timeout=LIMIT_S)
    assert not alive


def test_it_gives_up_where_nothing_gets_further(project: Path) -> None:
    """Each worker ends as soon as it starts."""
    script = project / "sitecustomize.py"
    script.write_text("import os, sys\nif 'TF_CONFIG' in os.environ: os._exit(7)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(project))
        printed = train_cluster(project, "--restarts", "1", code=1)
    assert printed.count("all restart in") == 1
    assert "worker 0 ended with exit code 7" in printed
    assert "the next run resumes from the last checkpoint" in printed.splitlines()[-1]


def test_features_on_google_storage_are_read_by_every_worker(
    project: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemforge import storage

    folder = original / "data" / "features"
    with google_storage(monkeypatch):
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                storage.upload(path, f"gs://bucket/features/{name}")
        (project / "data" / "features").unlink()
        train_cluster(project, *TRAIN, "--features", "gs://bucket/features")
    assert_same_model(project, original)


def tf_configs(workers: int, *, chief: bool = False) -> list[str]:
    """TF_CONFIG of each worker on this machine; with a job of the chief's own, as on Vertex AI."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    jobs = {"chief": addresses[:1], "worker": addresses[1:]} if chief else {"worker": addresses}
    return [
        json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
        for kind, members in jobs.items()
        for index in range(len(members))
    ]


def by_hand(
    folders: list[Path],
    *,
    chief: bool = False,
    command: Sequence[str] = (*CLI, "train", "--stem", "drums"),
) -> list[tuple[int, str]]:
    """A worker in each folder, as on machines of their own; exit codes and what they printed."""
    processes = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment(
                TF_CONFIG=config,
                STEMFORGE_STRATEGY="multi_worker",
                TF_CPP_MIN_LOG_LEVEL="3",
                TF_NUM_INTRAOP_THREADS=str(max(1, (os.cpu_count() or 1) // 2)),
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, config in zip(folders, tf_configs(len(folders), chief=chief), strict=True)
    ]
    try:
        printed = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, printed, strict=True)]


@pytest.fixture
def other(original: Path, tmp_path: Path) -> Path:
    """What another machine has."""
    shutil.copytree(original / "data" / "features", tmp_path / "other" / "data" / "features")
    shutil.copy(original / "params.yaml", tmp_path / "other")
    return tmp_path / "other"


def test_only_the_chief_writes(project: Path, other: Path, original: Path) -> None:
    before = sorted(other.rglob("*"))
    assert [code for code, _ in by_hand([project, other], chief=True)] == [0, 0]
    assert sorted(other.rglob("*")) == before
    assert_same_model(project, original)


# A worker; number 1 gets SIGTERM after it has asked for its first batch; argv: of which split.
SIGNALLED = """
import json, os, signal, sys, threading
from stemforge import tensorflow
tensorflow.start(find_devices=False)
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running import training
from stemforge.train.dataset import Dataset

split, delay_s = sys.argv[1], float(sys.argv[2])
batches = getattr(Dataset, split)

def signalling(self, **how):
    for number, batch in enumerate(batches(self, **how)):
        if number == 0:
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGTERM)).start()
        yield batch

if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    setattr(Dataset, split, signalling)
raise SystemExit(run_main(lambda: training.run("drums", "data/features", strategy="multi_worker")))
"""


@pytest.mark.parametrize(
    ("split", "delay_s", "step"),
    [
        ("training", 0.2, 1),  # while the first step is traced and compiled
        ("validation", 0.0, 10),
    ],
)
def test_sigterm_at_one_worker_leaves_a_checkpoint(
    project: Path, other: Path, split: str, delay_s: float, step: int
) -> None:
    command = (sys.executable, "-c", SIGNALLED, split, str(delay_s))
    (chief, said), (worker, _) = by_hand([project, other], command=command)
    assert (chief, worker) == (128 + signal.SIGTERM, 128 + signal.SIGTERM)
    assert said.splitlines()[-1] == (
        f"train@drums: stopped at step {step} of {STEPS}; the next run resumes there"
    )
    (checkpoint,) = project.glob(".work/train-drums/*/checkpoint-*")
    assert checkpoint.name == f"checkpoint-{step:09d}"
    validated = [
        row["step"]
        for row in json.loads((checkpoint / "state.json").read_text())["history"]
        if row["valid_loss"] is not None
    ]
    assert validated == list(range(10, step + 1, 10))


def test_a_learning_rate_that_explodes_ends_all_workers(project: Path) -> None:
    set_params(
        project,
        train__learning_rate=1e30,
        train__log_every_steps=50,
        monitor__checkpoint_every_steps=1,
    )
    said = train_cluster(project, code=2).splitlines()[-1]
    problem = (
        r"stemforge: error: worker \d: train@drums: (loss|gradients' norm) is (nan|inf) after "
    )
    found = re.match(problem + r"step (\d+), whose windows are 'Song", said)
    assert found, said
    assert said.endswith(f"the checkpoint of step {found[3]} is kept")
    (checkpoint,) = project.glob(".work/train-drums/*/checkpoint-*")
    with np.load(checkpoint / "variables.npz") as values:
        assert all(np.isfinite(values[name]).all() for name in values.files)


def test_a_worker_with_other_parameters_is_refused(project: Path, other: Path) -> None:
    set_params(other, train__learning_rate=0.5, train__seed=8)
    for code, printed in by_hand([project, other]):
        assert code == 2
        assert printed.splitlines()[-1] == (
            "stemforge: error: worker 1 differs from the chief in train.learning_rate, "
            "train.seed: use the same params.yaml, features and arguments on all workers"
        )
    assert not list(project.glob(".work/*"))


def test_a_worker_without_features_is_refused(project: Path, other: Path) -> None:
    shutil.rmtree(other / "data")
    (chief, said), (worker, reason) = by_hand([project, other])
    assert (chief, worker) == (1, 2)
    assert said.splitlines()[-1] == (
        "stemforge: worker 1 cannot start: see its output for the reason"
    )
    assert reason.splitlines()[-1].startswith("stemforge: error: data/features: ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--workers", "0", *TRAIN], "--workers 0: must be 1 or more"),
        (["--workers", "2", "--", "--features", "x"], "no --stem: give it after --"),
        (
            ["--workers", "2", "--", "--stem", "horn"],
            "worker 0: --stem horn: must be one of models:",
        ),
        (["--workers", "3", *TRAIN], "worker 0: train.batch_size=4: 3 replicas cannot share"),
    ],
)
def test_what_does_not_fit(project: Path, arguments: list[str], problem: str) -> None:
    done = subprocess.run(
        [*COMMAND[:-2], *arguments], cwd=project, env=environment(), capture_output=True,
        text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = (x for x in done.stderr.splitlines() if x.startswith("stemforge: "))
    assert problem in line
    assert not (project / "models").exists()


def test_workers_without_tf_config(project: Path) -> None:
    done = stemforge(project, "train", "--stem", "drums", code=2, STEMFORGE_STRATEGY="multi_worker")
    (line,) = done.stderr.splitlines()
    assert line.endswith("it is not set")
