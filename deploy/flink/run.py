"""Compares the feature job on a Flink cluster of this machine with a local run, byte by byte.

    python deploy/flink/run.py [--corpus ROOT] [--folder FOLDER]

Starts a JobManager, a TaskManager, Beam's job server, a pool of Python workers and a gs:// in
memory, all on 127.0.0.1. The workers see neither this checkout nor its data: they have stemforge
from a wheel, and read and write gs://. Runs the job three times (undisturbed; with the TaskManager
killed midway and replaced, as a cluster's operator does; with its Python workers killed midway),
checks after each that the shards are those of a local run, and stops everything. It needs java (11
or 17), mvn, the packages of the `dev` extra, and a system that allows mount namespaces.
"""

import argparse
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.flink.isolation import Workers, emulator, emulator_environment, namespace
from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import read_manifest
from stemforge.pipelines.console import run_main, say
from stemforge.pipelines.paths import TRACKS
from stemforge.pipelines.running.supervisor import free_ports
from stemforge.pipelines.running.work import WORK
from stemforge.unfinished import finishing

STEMFORGE = str(Path(sys.executable).with_name("stemforge"))  # of this environment
POM = Path(__file__).with_name("pom.xml")
LIMIT_S, START_S = 600, 90
MODULES = ("lang", "lang.invoke", "util", "util.concurrent", "nio", "net", "io", "time")
OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in MODULES]
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
INPUT = "gs://bucket/input"  # the corpus, or its decoded files
WORKER = "SdkHarness"  # in the command of each of its workers
# What Flink's own start script would work out from one total.
MEMORY = {
    "jobmanager.memory.process.size": "1g",
    "taskmanager.cpu.cores": "2",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.task.heap.size": "384m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.off-heap.size": "0",
    "taskmanager.memory.network.min": "128m",
    "taskmanager.memory.network.max": "128m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}


def main() -> None:
    """Runs the job and its checks."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[2], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", metavar="ROOT", help="decode this corpus in the job; else data/decoded"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".flink"), help="for jars, logs and features"
    )
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not namespace():
        raise UserError("unshare: this system allows no mount namespaces: run it as root, or allow "
                        "user namespaces")  # fmt: skip
    jars = fetch_jars(folder / "jars")
    corpus = arguments.corpus
    source = Path(corpus) if corpus else read_manifest(TRACKS).audio_root
    local = folder / "features-local"
    compute(str(local), ["--corpus", str(source.resolve())] if corpus else [])
    workers = Workers(folder / "workers")
    shutil.rmtree(workers.folder, ignore_errors=True)
    workers.folder.mkdir()
    workers.install()
    hidden = (source, local, WORK)
    with Cluster(folder, jars, workers, hidden).running() as cluster:
        for name in storage.list_files(str(source)):
            storage.upload(source / name, f"{INPUT}/{name}")
        flags = ["--corpus" if corpus else "--audio", INPUT, *cluster.flags]
        for name, disturb in (
            ("undisturbed", None),
            ("TaskManager killed", cluster.replace_task_manager),
            ("workers killed", cluster.kill_workers),
        ):
            out = f"gs://bucket/features-{name.replace(' ', '-')}"
            started_s = time.monotonic()
            restarts = cluster.restarts()
            compute(out, flags, disturb)
            seconds = time.monotonic() - started_s
            if disturb and cluster.restarts() == restarts:
                raise UserError(f"{name}: Flink did not notice; see {folder / 'jobmanager.log'}")
            verify = [STEMFORGE, "verify", out, "--compare", str(local)]
            if subprocess.run(verify, check=False).returncode:
                raise UserError(f"{name}: the features are not those of the local run")
            say(f"flink: {name}: the same bytes as locally, after {seconds:.0f} s")


def fetch_jars(folder: Path) -> list[Path]:
    """The jars of pom.xml, copied by Maven the first time.

    Raises:
        UserError: java or mvn is missing, or a jar cannot be downloaded.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise UserError(f"{program}: not found on PATH: install a JDK (11 or 17) and Maven")
    if not folder.exists():
        say("flink: fetching jars")
        with finishing(folder) as fresh:
            command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
                       f"-DoutputDirectory={fresh}"]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                first = next((x for x in done.stdout.splitlines() if "ERROR" in x), "mvn failed")
                raise UserError(f"{POM}: {first}")
    return sorted(folder.glob("*.jar"))


def compute(out: str, flags: list[str], disturb: Callable[[], None] | None = None) -> None:
    """Runs the feature job.

    Args:
        out: features folder, local or a URL.
        flags: of the job.
        disturb: called when the first shard is done.

    Raises:
        UserError: it failed, or ended before it was disturbed.
    """
    command = [STEMFORGE, "features", "--output", out, *flags]
    deadline_s = time.monotonic() + LIMIT_S
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                if time.monotonic() > deadline_s:
                    raise UserError(f"{out}: the job is not done after {LIMIT_S} s")
                if disturb and any("/index-" in name for name in storage.list_files(out)):
                    disturb()
                    disturb = None
                time.sleep(0.1)
        finally:
            process.kill()
    if process.returncode:
        raise UserError(f"{out}: the job failed; the cluster's logs are in --folder")
    if disturb:
        raise UserError(f"{out}: the job ended before it was disturbed: use a larger corpus")


class Cluster:
    """A Flink cluster, Beam's job server, Python workers and a gs:// bucket, all on 127.0.0.1.

    Args:
        folder: for logs and Flink's own files.
        jars: of Flink and of the job server.
        workers: installed.
        hidden: folders that the workers shall not see.
    """

    def __init__(
        self, folder: Path, jars: list[Path], workers: Workers, hidden: Sequence[Path]
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._hidden = hidden
        self._every_jar = os.pathsep.join(map(str, jars))
        flink = [jar for jar in jars if not jar.name.startswith("beam-")]
        self._flink_jars = os.pathsep.join(map(str, flink))
        self._rpc, self._rest, self._job, self._artifacts, self._pool, self._gs = free_ports(6)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def flags(self) -> list[str]:
        """Of Beam, for a job here."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{self._job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{self._pool}",
            "--parallelism=2",
        ]

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        """The cluster runs inside this context."""
        self._configure()
        os.environ |= emulator_environment(self._gs)  # for this process and all that it starts
        try:
            self._start("emulator", *emulator(self._gs))
            self._java("jobmanager", self._flink_jars, "512m", JOB_MANAGER, *self._configuration)
            self._start_task_manager()
            self._wait_for_task_managers(1)
            self._java(
                "jobserver", self._every_jar, "512m", JOB_SERVER,
                f"--flink-master=127.0.0.1:{self._rest}", "--job-host=127.0.0.1",
                f"--job-port={self._job}", f"--artifact-port={self._artifacts}",
                "--expansion-port=0", f"--artifacts-dir={self._folder / 'artifacts'}",
            )  # fmt: skip
            self._start(
                "workers", *self._workers.command(self._pool, hidden=self._hidden),
                environment=self._workers.environment(),
            )  # fmt: skip
            for name, port in (
                ("jobserver", self._job), ("workers", self._pool), ("emulator", self._gs),
            ):  # fmt: skip
                self._until(functools.partial(_listens, port), name)
            say(f"flink: its dashboard's API is at http://127.0.0.1:{self._rest}")
            yield self
        finally:
            for process in self._processes.values():
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()

    def replace_task_manager(self) -> None:
        """Kills the TaskManager and starts another."""
        self._processes["taskmanager"].kill()
        self._processes["taskmanager"].wait()
        say("flink: killed the TaskManager; another starts")
        self._start_task_manager()

    def kill_workers(self) -> None:
        """Kills the Python processes that do the work.

        All of them, because an idle one may belong to the TaskManager that was killed before.
        """
        killed = 0
        for child in psutil.Process(self._processes["workers"].pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                if WORKER in str(child.cmdline()):
                    child.kill()
                    killed += 1
        say(f"flink: killed {killed} Python workers")

    def restarts(self) -> int:
        """How often Flink has started a job again."""
        log = (self._folder / "jobmanager.log").read_text(encoding="utf-8", errors="replace")
        return log.count("from state RESTARTING to RUNNING")

    @property
    def _configuration(self) -> list[str]:
        return ["-c", str(self._folder / "conf")]

    def _configure(self) -> None:
        temporary = self._folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        (self._folder / "conf").mkdir(exist_ok=True)
        for log in self._folder.glob("*.log"):
            log.unlink()
        values = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc,
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 2,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._rest,
            "io.tmp.dirs": temporary,
            "web.upload.dir": temporary,
            # The end of a TaskManager is noticed soon, and its work is repeated.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "2 s",
            **MEMORY,
        }
        text = "".join(f"{key}: {value}\n" for key, value in values.items())
        (self._folder / "conf" / "config.yaml").write_text(text, encoding="utf-8")

    def _start_task_manager(self) -> None:
        # Only Flink's own start script computes the amounts from the file.
        amounts = [part for key, value in MEMORY.items() for part in ("-D", f"{key}={value}")]
        self._java(
            "taskmanager", self._flink_jars, "512m", TASK_MANAGER, *self._configuration, *amounts
        )

    def _java(self, name: str, jars: str, heap: str, main: str, *arguments: str) -> None:
        self._start(name, "java", f"-Xmx{heap}", *OPENS, "-cp", jars, main, *arguments)

    def _start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _wait_for_task_managers(self, count: int) -> None:
        def there() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._rest}/overview") as answer:
                    return bool(json.load(answer)["taskmanagers"] >= count)
            except OSError:
                return False

        self._until(there, "taskmanager")

    def _until(self, ready: Callable[[], bool], name: str) -> None:
        deadline_s = time.monotonic() + START_S
        while not ready():
            if self._processes[name].poll() is not None or time.monotonic() > deadline_s:
                raise UserError(f"{name} does not start: see {self._folder / name}.log")
            time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    raise SystemExit(run_main(main))
