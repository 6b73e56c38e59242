"""A pool of Beam's Python workers that sees as little as one on another machine would.

It runs in a mount namespace of its own, in which empty file systems hide folders of this machine,
with stemforge installed from a wheel. `make flink` and the tests use it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = tuple(ROOT / name for name in ("stemforge", "features", "train", "eval", "pipelines"))
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"
# Mounts over the folders before "--", then becomes the command behind it.
HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs tmpfs "$1" || exit; shift; done; shift; exec "$@"'


def namespace() -> list[str]:
    """The start of a command that runs the rest in a mount namespace.

    Returns:
        Empty where this system allows none.
    """
    if shutil.which("unshare") is None:
        return []
    command = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    # A container may allow the namespace and forbid mounts in it.
    probe = [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return [] if subprocess.run(probe, capture_output=True, check=False).returncode else command


@dataclass(frozen=True)
class Workers:
    """An installation for workers, with a home and a temporary folder of its own.

    Attributes:
        folder: holds all of it.
    """

    folder: Path

    @property
    def packages(self) -> Path:
        """Where stemforge is installed; its dependencies are those of this environment."""
        return self.folder / "packages"

    def install(self) -> None:
        """Installs stemforge from a wheel of the tree.

        Raises:
            subprocess.CalledProcessError: pip failed.
        """
        listed = ["git", "ls-files", "-co", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        with tempfile.TemporaryDirectory(prefix="stemforge-") as tree:
            for name in names.splitlines():  # a copy, so that the build leaves nothing in the tree
                if (ROOT / name).exists():
                    (Path(tree) / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, Path(tree) / name, follow_symlinks=False)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
            command += ["--no-build-isolation", "--target", str(self.packages), tree]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)

    def command(self, port: int, *, hidden: Iterable[Path]) -> list[str]:
        """The command that runs the pool.

        Args:
            port: that it listens on.
            hidden: folders that exist now, and that it shall not see beside this tree's code.

        Raises:
            OSError: this system allows no mount namespace.
        """
        start = namespace()
        if not start:
            raise OSError("no mount namespace: run as root, or allow user namespaces")
        folders = [str(folder.resolve()) for folder in (*CODE, *hidden)]
        # From its own folder, because its workers look for modules in the current one.
        pool = ["env", "-C", str(self.folder), sys.executable, "-m", WORKER_POOL]
        return [*start, "sh", "-c", HIDE, "sh", *folders, "--", *pool, f"--service_port={port}"]

    def environment(self) -> dict[str, str]:
        """Its variables: those of this process, but its own packages, home and temporary folder."""
        return os.environ | {
            "PYTHONPATH": str(self.packages),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "NO_GCE_CHECK": "true",  # nothing here may look for a cloud's metadata server
        }


def emulator(port: int) -> Sequence[str]:
    """The command that runs a gs://bucket of this machine, in memory."""
    command = str(Path(sys.executable).with_name("gcp-storage-emulator"))
    place = ("--host", "127.0.0.1", "--port", str(port), "--in-memory")
    return (command, "start", *place, "--default-bucket", "bucket")


def emulator_environment(port: int) -> dict[str, str]:
    """Variables for processes that use that bucket."""
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "NO_GCE_CHECK": "true"}
