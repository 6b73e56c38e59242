"""What a worker must share with the launcher of its job: versions, code, places.

Workers may run on other machines, from an image or an environment of their own. Other versions
would write other bytes, and another disk would keep what nobody reads. So each worker compares
itself with the launcher before it works.

The launcher leaves a token, the hidden file .run, in the output place while its job runs. It shows
a worker that this is the launcher's place, and another launcher that the place is taken. It stays
where a service may still run the job after the launcher's end.
"""

import functools
import importlib.metadata
import os
import re
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import soundfile

from stemforge import storage
from stemforge.code import code_sha256
from stemforge.errors import JobGoesOn, UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.shards.records import INFO, TOKEN, is_feature_file

# numpy and scipy compute, soundfile reads samples, protobuf and pyarrow write what is stored, and
# Beam's pickles must be its own. CRC-32C is a standard: whatever computes it, its bytes are equal.
PACKAGES = ("apache-beam", "numpy", "protobuf", "pyarrow", "scipy", "soundfile", "stemforge")
FFMPEG = "ffmpeg"
JOB = "stemforge.features.shards.beam"  # with all that it imports
ELSEWHERE = "workers elsewhere"  # in a token: the job may outlive its launcher


@dataclass(frozen=True)
class Launcher:
    """The launcher's side of the comparison; it travels with the job.

    Attributes:
        versions: what decides the bytes, by name, as `versions` returns it.
        inputs: folders that workers read; URLs are left to the filesystem's own errors.
        output: features folder that the job writes, local or a URL.
        run: contents of the token there.
    """

    versions: dict[str, str]
    inputs: tuple[str, ...]
    output: str
    run: str

    def check(self) -> None:
        """Compares this process with the launcher's.

        Raises:
            UserError: a version differs, or a place of the launcher is not there.
        """
        worker = f"worker {socket.gethostname()}"
        here = versions(decodes=FFMPEG in self.versions)
        wrong = [
            f"{name} {here.get(name, 'none')}, but the launcher has {version}"
            for name, version in self.versions.items()
            if here.get(name) != version
        ]
        if wrong:
            raise UserError(
                f"{worker}: {'; '.join(wrong)}: use the image or set-up of the same versions"
            )
        for place in self.inputs:
            if storage.is_local(place) and not Path(place).is_dir():
                raise UserError(
                    f"{worker}: {place}: no such folder here: name one that all workers see, "
                    "such as gs://..."
                )
        self.check_output()

    def check_output(self) -> None:
        """Checks that the output place holds the token of this run.

        Raises:
            UserError: it holds none, or that of another run.
        """
        found = _token(self.output)
        if found is None:
            raise UserError(
                f"worker {socket.gethostname()}: {self.output}: the launcher's file {TOKEN} is not "
                "in it: it is another machine's folder, or the launcher has ended: give --output "
                "a place that all workers see, such as gs://..., and run the command again"
            )
        if found != self.run:
            raise UserError(
                f"{self.output}: {found} writes features here too: this run ends, run it again "
                "when the other has ended"
            )


@contextmanager
def launching(
    output: str, *, inputs: tuple[str, ...] = (), decodes: bool, are_here: bool = True
) -> Iterator[Launcher]:
    """Claims a features folder for one run; what older runs left there goes.

    Args:
        output: features folder, local or a URL.
        inputs: folders that workers read.
        decodes: whether workers decode with ffmpeg.
        are_here: whether all workers end with this process.

    Yields:
        What workers compare themselves with.

    Raises:
        UserError: another run writes here, or the place cannot be written.
        JobGoesOn: raised inside; the token stays, which the job's workers look for.
    """
    refuse_taken(output)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = "" if are_here else f", {ELSEWHERE}"
    run = (
        f"run {uuid.uuid4().hex[:8]} "
        f"({socket.gethostname()}, process {os.getpid()}, since {now}{where})"
    )
    storage.write_bytes(storage.join(output, TOKEN), run.encode())
    try:
        _remove_old(output)
        yield Launcher(versions(decodes=decodes), inputs, output, run)
    except JobGoesOn:
        raise
    except BaseException:
        with suppress(OSError, UserError):  # the first error is the one to report
            _release(output, run)
        raise
    _release(output, run)


def refuse_taken(output: str) -> None:
    """Refuses a features folder that another run is writing.

    The token of a run that has ended goes: its info.json is there, or it was a run of this machine
    whose process, and with it all its workers, is gone.

    Raises:
        UserError: a run may still write there.
    """
    token = storage.join(output, TOKEN)
    found = _token(output)
    if found is None:
        return
    if storage.size(storage.join(output, INFO)) is None and not _was_killed(found):
        ended = "its job has ended" if ELSEWHERE in found else "it was killed"
        raise UserError(
            f"{output}: {found} writes features here: wait for its end; if {ended}, remove {token}"
        )
    storage.remove(token)


def _was_killed(run: str) -> bool:
    """Whether a token is of a process of this machine that is gone, with all its workers."""
    said = re.fullmatch(r"run \w+ \((.*), process (\d+), since [^,]*\)", run)
    if said is None or said[1] != socket.gethostname():
        return False
    try:
        os.kill(int(said[2]), 0)
    except ProcessLookupError:
        return True
    except (OverflowError, PermissionError):  # no number of ours; of another user
        return False
    return False


def _token(output: str) -> str | None:
    try:
        return storage.read_bytes(storage.join(output, TOKEN)).decode(errors="replace")
    except FileNotFoundError:
        return None


def _release(output: str, run: str) -> None:
    if _token(output) == run:
        storage.remove(storage.join(output, TOKEN))


def _remove_old(output: str) -> None:
    """Removes older features: their info.json first, because it would soon be wrong."""
    storage.remove(storage.join(output, INFO))
    for name in storage.list_files(output, hidden=True):
        if is_feature_file(name):
            storage.remove(storage.join(output, name))


@functools.cache
def versions(*, decodes: bool) -> dict[str, str]:
    """What decides the features' bytes on one kind of CPU, by name.

    Python counts without its last number: its bug fixes change none of our bytes.

    Args:
        decodes: whether ffmpeg's version is among them.

    Raises:
        UserError: ffmpeg is needed and missing.
    """
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    found["libsndfile"] = soundfile.__libsndfile_version__
    found["stemforge's code"] = code_sha256(JOB)[:12]
    if decodes:
        found[FFMPEG] = ffmpeg.version()
    return found
