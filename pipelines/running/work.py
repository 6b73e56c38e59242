"""Work in progress: where it is kept, its lock, and how it becomes a stage's output.

`dvc repro` deletes a stage's outputs before it runs the stage. So a stage works in
.work/<stage>/<hash of its parameters and inputs>/, where a killed run can be resumed, and
renames the result into the output when it is complete. A changed parameter or input gives
another hash.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemforge.code import code_sha256, is_module
from stemforge.errors import UserError
from stemforge.pipelines.code import STAGES
from stemforge.pipelines.console import say
from stemforge.unfinished import finishing, remove_leftovers

WORK = Path(".work")
SPARE_BYTES = 64 * 2**20  # kept free for everything else
PARENT_CHECK_S = 0.5
CANCEL_S = 30.0  # for the request to cancel a job that runs elsewhere
_runs_elsewhere = threading.Event()


@contextmanager
def work_folder(stage: str, *identity: Any, keep: bool = False) -> Iterator[Path]:
    """The folder for this stage's work in progress, locked for this process.

    Folders of the stage with another identity are removed: the current parameters and inputs
    can never resume them. The folder itself is removed when the work is done, unless `keep`
    is true because a later run may resume it.

    Args:
        stage: name of the stage.
        identity: everything that the result depends on, as JSON values. For a stage of dvc.yaml
            its code is added; train, which can do without that, is none under its own name.
        keep: whether the folder stays when the work is done.

    Yields:
        An existing folder, perhaps with what an earlier run left.

    Raises:
        UserError: another process is running this stage.
    """
    module = f"{STAGES}.{stage}"
    code = [code_sha256(module)] if is_module(module) else []
    text = json.dumps([*identity, *code], sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    root = WORK / stage
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"{root}: another process ({lock.read().strip()}) is running this stage: "
                "wait for it to end, or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if "DVC_STAGE" in os.environ:  # set by `dvc repro` for the commands it runs
            end_with_parent()
        for stale in root.iterdir():
            if stale.is_dir() and stale.name != name:
                shutil.rmtree(stale)
        folder = root / name
        folder.mkdir(exist_ok=True)
        yield folder
        if not keep:  # the result is published, and leftovers would mislead
            shutil.rmtree(folder)


def publish(finished: Path, out: Path) -> None:
    """Renames a finished file or folder into a stage's output, replacing an existing one.

    Half-written files of a killed run are left out.
    """
    remove_leftovers(finished)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir() and not out.is_symlink():
        shutil.rmtree(out)
    finished.replace(out)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder for results; it gets its final name when it is complete.

    Raises:
        UserError: `output` exists and is not an empty folder.
    """
    if not output.name:
        raise UserError(f"{output}: no name of a folder that can be made: name one in it")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: already exists and is not empty: choose another folder")
    with finishing(output) as fresh:
        fresh.mkdir(parents=True)
        yield fresh


@contextmanager
def alone(lock: Path, *, what: str) -> Iterator[None]:
    """Waits until no other process works on the same.

    Args:
        lock: a file for it, in an existing folder.
        what: it is; a line says that another process works on it.
    """
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{what}: another process is working on it: waiting for that")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_free_space(folder: Path, needed_bytes: int, *, what: str) -> None:
    """Refuses work that would fill the disk.

    Raises:
        UserError: less than `needed_bytes` and a little spare is free.
    """
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + SPARE_BYTES:
        raise UserError(
            f"{folder}: {what} needs {needed_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB is "
            "free: free some space, or use another disk"
        )


def explain_empty(folder: Path, text: str) -> None:
    """Says in an output folder why nothing else is in it; DVC warns of empty ones."""
    (folder / "README.txt").write_text(text + "\n", encoding="utf-8")


def end_with_parent() -> None:
    """Ends this process soon after its parent has ended.

    A killed `dvc repro` cannot end its stage, which would then run beside the next one. Inside
    `time_to_cancel` the process gets SIGTERM first, and some time to act on it.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        if _runs_elsewhere.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(CANCEL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def time_to_cancel() -> Iterator[None]:
    """Inside, a service runs a job for this process, which cancels it before it ends."""
    _runs_elsewhere.set()
    try:
        yield
    finally:
        _runs_elsewhere.clear()
