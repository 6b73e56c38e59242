"""The features that a training run reads: on this machine, and compared with info.json.

Features at a URL are copied once, to .work/features-cache/<sha256 of info.json>/: a step of
training makes dozens of short reads. A file's sha256 is computed once and kept with its size and
time, in .work/features-checked/; a file that has changed since is checked again.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.records import INFO
from stemforge.pipelines.console import progress, say
from stemforge.pipelines.running.work import WORK, check_free_space
from stemforge.unfinished import finishing

CACHE = WORK / "features-cache"
CHECKED = WORK / "features-checked"
SHOWN_FROM_BYTES = 10**9  # checking less takes a few seconds

Entries = Mapping[str, dict[str, Any]]  # by file: its bytes and sha256, from info.json


@contextmanager
def local_features(
    features: FeatureSet, sources: Sequence[str], *, advice: str, remember: bool = True
) -> Iterator[FeatureSet]:
    """Features on this machine, of which the files that a run needs are whole.

    Args:
        features: an opened folder, local or a URL.
        sources: whose shards are needed.
        advice: what a user does about damaged features; the end of an error.
        remember: whether the next run need not compute the sha256 of local files again.

    Yields:
        The folder itself, or its copy, which no other process removes meanwhile.

    Raises:
        UserError: a file is missing or damaged, or the disk is too small for the copy.
    """
    wanted = features.files(sources)
    if storage.is_local(features.root):
        if damage := find_damage(Path(features.root), wanted, remember=remember):
            name, problem = next(iter(damage.items()))
            raise UserError(f"{storage.join(features.root, name)}: {problem}: {advice}")
        yield features
        return
    folder = CACHE / features.sha256
    with _locked(folder.with_suffix(".lock"), shared=True):
        if find_damage(folder, wanted):
            with _locked(folder.with_suffix(".copying"), shared=False):
                missing = find_damage(folder, wanted)  # another run may have copied them
                _copy(features, {name: wanted[name] for name in missing}, folder, advice)
        yield FeatureSet(str(folder), features.info, features.text)


def find_damage(root: Path, wanted: Entries, *, remember: bool = True) -> dict[str, str]:
    """What is wrong with files of a features folder: a problem by name."""
    receipts = _Receipts(root)
    problems: dict[str, str] = {}
    unknown: dict[str, dict[str, Any]] = {}
    for name, entry in wanted.items():
        size = storage.size(str(root / name))
        if size is None:
            problems[name] = f"no such file, but {INFO} names it"
        elif size != entry["bytes"]:
            problems[name] = f"{size} bytes instead of {entry['bytes']}: damaged"
        elif not receipts.has(name, entry):
            unknown[name] = entry
    total = sum(entry["bytes"] for entry in unknown.values())
    with _megabytes(unknown if total >= SHOWN_FROM_BYTES else {}, "checking features") as done:
        for name, entry in unknown.items():
            if storage.file_sha256(root / name) == entry["sha256"]:
                receipts.add(name, entry)
            else:
                problems[name] = f"its sha256 is not that of {INFO}: damaged"
            done(entry["bytes"])
    if remember:
        receipts.save()
    return problems


class _Receipts:
    """Which files of a folder had the right sha256, and their stamps at that time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self._path = CHECKED / f"{key}.json"
        self._known: dict[str, Any] = {}
        self._is_new = False
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        if isinstance(known, dict):
            self._known = known

    def has(self, name: str, entry: Mapping[str, Any]) -> bool:
        return self._known.get(name) == self._receipt(name, entry)

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        self._known[name] = self._receipt(name, entry)
        self._is_new = True

    def save(self) -> None:
        """Writes them; of two processes at once, one's are lost and made again."""
        if self._is_new:
            CHECKED.mkdir(parents=True, exist_ok=True)
            with finishing(self._path, by_process=True) as temporary:
                temporary.write_text(json.dumps(self._known), encoding="utf-8")

    def _receipt(self, name: str, entry: Mapping[str, Any]) -> list[Any]:
        return [storage.stamp(str(self._root / name)), entry["sha256"]]


def _copy(features: FeatureSet, missing: Entries, folder: Path, advice: str) -> None:
    """Copies files into the cache; those of a killed run that are whole stay."""
    if not missing:
        return
    _remove_others(folder)
    check_free_space(
        folder, sum(entry["bytes"] for entry in missing.values()), what="copying features"
    )
    receipts = _Receipts(folder)
    with _megabytes(missing, "copying features") as done:
        for name, entry in missing.items():
            _copy_file(storage.join(features.root, name), folder / name, entry, advice)
            receipts.add(name, entry)
            receipts.save()
            done(entry["bytes"])


def _copy_file(place: str, path: Path, entry: Mapping[str, Any], advice: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with finishing(path) as temporary:
        try:
            storage.download(place, temporary)
        except FileNotFoundError:
            raise UserError(f"{place}: no such file, but {INFO} names it: {advice}") from None
        if storage.file_sha256(temporary) != entry["sha256"]:
            raise UserError(f"{place}: its sha256 is not that of {INFO}: damaged: {advice}")


def _remove_others(folder: Path) -> None:
    """Removes copies of other features that no process uses now."""
    for other in sorted(CACHE.iterdir()):
        if not other.is_dir() or other == folder:
            continue
        with other.with_suffix(".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(other)
            say(f"{other}: removed: a copy of other features")


@contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Holds a lock, which ends with the process at the latest; its empty file stays."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{path}: another process has this lock: waiting for it")
            fcntl.flock(lock, kind)
        yield


@contextmanager
def _megabytes(entries: Entries, label: str) -> Iterator[Any]:
    """A progress bar over files of known sizes, or none where there are no files.

    Yields:
        A function that takes the bytes of a finished file.
    """
    if not entries:
        yield lambda count: None
        return
    total = sum(entry["bytes"] for entry in entries.values())
    with progress(round(total / 1e6), label=label, unit="MB") as bar:
        finished = 0

        def done(count: int) -> None:
            nonlocal finished
            finished += count
            bar.update(round(finished / 1e6) - bar.n)

        yield done
