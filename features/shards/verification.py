"""Checking a features folder against its info.json, and against another folder."""

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

from stemforge import storage
from stemforge.features.corpus.manifest import Split
from stemforge.features.shards.examples import read_record
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.records import INDEX, INFO, REJECTS, index_name, shard_name
from stemforge.parquet import read_rows
from stemforge.storage import RangeReader
from stemforge.unfinished import is_temporary

CHUNK_BYTES = 2**22


def find_damage(root: str, *, progress: Callable[[int], object]) -> Iterator[str]:
    """Checks sizes, sha256 sums, records, indexes and the numbers of blocks.

    Args:
        root: features folder, local or a URL.
        progress: called with the number of bytes that were just checked.

    Yields:
        A line for each problem.

    Raises:
        UserError: there is no finished features folder of this version.
    """
    features = FeatureSet.open(root)
    expected = {INFO, REJECTS}
    files = 1 + len(features.info["stems"]) + (features.info["mixture_phase"] is not None)
    for split, part in features.info["splits"].items():
        for name, entry in part["files"].items():
            expected.add(name)
            if _sha256(storage.join(root, name), progress) != entry["sha256"]:
                yield f"{name}: its sha256 is not that of {INFO}"
        rows = 0
        for shard in range(part["shards"]):
            for line, count in _check_index(root, split, shard, part["shards"]):
                rows += count
                if line:
                    yield line
        if rows != files * part["blocks_kept"]:
            yield f"{split}: {rows} records for {part['blocks_kept']} blocks in {files} files each"
        rejected = sum(part["blocks_rejected"].values())
        if part["blocks_kept"] + rejected != part["blocks_cut"]:
            yield (
                f"{split}: {part['blocks_kept']} blocks kept and {rejected} rejected, but "
                f"{part['blocks_cut']} cut"
            )
    for name in storage.list_files(root, hidden=True):
        # An unfinished shard is damage, and what macOS leaves is none.
        if name not in expected and (is_temporary(name) or not storage.is_hidden(name)):
            yield f"{name}: not named in {INFO}"


def differences(root: str, other: str) -> Iterator[str]:
    """Files whose contents differ between two features folders, by their sha256 in info.json.

    Yields:
        A line for each difference.

    Raises:
        UserError: one of them is not a finished features folder.
    """
    ours, theirs = FeatureSet.open(root), FeatureSet.open(other)
    for split in sorted({*ours.info["splits"], *theirs.info["splits"]}):
        mine = ours.info["splits"].get(split, {}).get("files", {})
        yours = theirs.info["splits"].get(split, {}).get("files", {})
        for name in sorted({*mine, *yours}):
            if mine.get(name) != yours.get(name):
                yield f"{name}: {_describe(mine.get(name))} and {_describe(yours.get(name))}"
    for name in (REJECTS, INFO):
        if storage.read_bytes(storage.join(root, name)) != storage.read_bytes(
            storage.join(other, name)
        ):
            yield f"{name}: its contents differ"


def _describe(entry: dict[str, Any] | None) -> str:
    return f"{entry['bytes']} bytes {entry['sha256'][:12]}" if entry else "missing"


def _sha256(place: str, progress: Callable[[int], object]) -> str:
    digest, reader, offset = hashlib.sha256(), RangeReader(place), 0
    while piece := reader.read(offset, CHUNK_BYTES):
        digest.update(piece)
        offset += len(piece)
        progress(len(piece))
    return digest.hexdigest()


def _check_index(root: str, split: Split, shard: int, shards: int) -> Iterator[tuple[str, int]]:
    """For each row of an index: a line (empty if it is correct), and a count of one."""
    name = index_name(split, shard, shards)
    try:
        rows, _ = read_rows(io.BytesIO(storage.read_bytes(storage.join(root, name))), INDEX)
    except ValueError as error:
        yield f"{name}: {error}", 0
        return
    readers: dict[str, RangeReader] = {}
    for row in rows:
        file = shard_name(split, row["source"], shard, shards)
        if file not in readers:
            try:
                readers[file] = RangeReader(storage.join(root, file))
            except FileNotFoundError:
                yield f"{file}: no such file, but {name} names it", 1
                continue
        fields = read_record(readers[file].read(row["offset"], row["length"]))
        where = f"{file}: record at byte {row['offset']}"
        if fields is None:
            yield f"{where} is damaged", 1
            continue
        found = fields["track"].decode(), fields["block"], fields["start_frame"], fields["frames"]
        wanted = row["track"], row["block"], row["start_frame"], row["frames"]
        yield ("" if found == wanted else f"{where} is {found}, {name} says {wanted}"), 1
