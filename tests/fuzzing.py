"""A fuzz of the readers of other people's files: damaged copies of valid ones, drawn by a seed.

A reader may return a valid result or raise a UserError of one line. It may do nothing else: raise
anything else, take longer than LIMIT_S, or ask for more than MEMORY_BYTES.

`python -m tests.fuzzing READER FOLDER SECONDS SEED` runs one reader on copies of FOLDER; what it
breaks on stays in FOLDER.case.
"""

import copy
import faulthandler
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemforge.errors import UserError

LIMIT_S = 30  # far above what a reader takes on a slow machine
MEMORY_BYTES = 2**30  # beside what the process takes after it has read the valid file
NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 10**400)
VALUES: tuple[Any, ...] = (
    *NUMBERS, *("", "a/b", "..", "\0", "ä", "\ud800", "x" * 5000, "12"),
    *(None, True, [], {}, [[]], {"": None}, 0.5, -0.0, 1e308, float("nan"), float("inf")),
)  # fmt: skip
PIECES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"\r", b'"', b",", b";"),
    *(b"[" * 3000, b"{\"a\":" * 3000, b"- " * 3000, b"9" * 5000, b"1e999", b"&a [*a]", b"!!int x"),
    *(b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 64),
)  # fmt: skip


def damage(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to four changes: bits, cuts, insertions, copies, odd pieces."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(found) + 1)
        length = min(draw.choice((1, 4, 16, 200)), len(found) - at)
        kind = draw.randrange(7)
        if kind == 0 and length:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at : at + length] = draw.randbytes(length)
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            del found[at:]
        elif kind == 4:
            found[at:at] = draw.choice(PIECES)
        elif kind == 5:
            piece = draw.choice(PIECES)
            found[at : at + len(piece)] = piece
        else:
            other = draw.randrange(len(found) + 1)
            found[at : at + length] = found[other : other + length]
    return bytes(found)


def damage_json(data: bytes, draw: random.Random) -> bytes:
    """JSON after one to three changes of values and keys; sometimes of its bytes."""
    if draw.random() < 0.3:
        return damage(data, draw)
    root = [json.loads(data)]
    for _ in range(draw.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        rest: list[Any] = [root]
        while rest:
            node = rest.pop()
            keys = node if isinstance(node, dict) else range(len(node))
            places += [(node, key) for key in keys]
            rest += [node[key] for key in keys if isinstance(node[key], dict | list)]
        node, key = draw.choice(places)
        kind = draw.randrange(4)
        if kind == 0:
            other, place = draw.choice(places)
            node[key] = json.loads(json.dumps(other[place]))
        elif kind == 1 and isinstance(node, dict):
            del node[key]
        elif kind == 2 and isinstance(node, dict):
            node[draw.choice(("", "x", "name", "\ud800", "kind"))] = copy.deepcopy(
                draw.choice(VALUES)
            )
        else:
            node[key] = copy.deepcopy(draw.choice(VALUES))
        if not root:
            break
    return json.dumps(root[0]).encode()


def read_card(folder: Path) -> None:
    from stemforge.train.model_files import Interface, read_card

    Interface.from_card(read_card(folder))


def read_weights(folder: Path) -> None:
    from stemforge.train.model_files import read_weights

    for values in read_weights(folder).values():
        assert values.dtype == np.float32


def read_params(folder: Path) -> None:
    from stemforge.pipelines.params import read_params

    read_params(folder / "params.yaml")


def read_csv(folder: Path) -> None:
    from stemforge.features.corpus.csv_files import read_csvs

    tracks = read_csvs({"train": str(folder / "train.csv")}, root=str(folder), stems=("a", "b"))
    assert all(track.name not in ("", ".", "..") and "/" not in track.name for track in tracks)


def read_scores(folder: Path) -> None:
    from stemforge.eval.scoring import scores

    try:
        found = scores.from_json("song", (folder / "song.json").read_bytes())
    except ValueError as error:
        raise UserError(str(error)) from None
    scores.frame_table([("method", found)])
    scores.whole_table([("method", found)])
    scores.read_inputs((folder / "song.json").read_bytes())


def read_spleeter_json(folder: Path) -> None:
    from stemforge.pipelines.running.spleeter_params import import_config

    output = folder / "out.yaml"
    base = Path(__file__).resolve().parent.parent / "params.yaml"
    import_config(folder / "config.json", output, data=str(folder), base=base)
    output.unlink()


def read_checkpoint(folder: Path) -> None:
    from stemforge.train.spleeter.checkpoints import infer_configuration, read_checkpoint

    infer_configuration(read_checkpoint(folder))


def read_shards(folder: Path) -> None:
    from stemforge.features.shards.reading import FeatureSet
    from stemforge.features.shards.verification import find_damage

    for _ in find_damage(str(folder), progress=lambda _: None):
        pass
    features = FeatureSet.open(str(folder))
    for split in features.info["splits"]:
        reader = features.reader(split)
        for run in reader.runs:
            for source in ("mixture", *features.info["stems"]):
                reader.read(source, run, 0, run.frames)


def read_tflite(folder: Path) -> None:
    from stemforge.eval.runtimes.litert import read_interface

    read_interface(folder / "model.tflite")


def read_manifest(folder: Path) -> None:
    from stemforge.features.corpus.manifest import read_manifest, read_rejects

    read_manifest(folder / "tracks.parquet")
    read_rejects(folder / "track_rejects.parquet")


def read_song(folder: Path) -> None:
    from stemforge.features.audio.files import stream_song

    damage: list[str] = []
    _, blocks = stream_song(folder / "song.wav", damaged=damage.append)
    for _ in blocks:
        pass
    assert len(damage) <= 1


def read_corpus(folder: Path) -> None:
    from stemforge.pipelines.running.musdb18_7 import unpack
    from stemforge.pipelines.running.named_corpora import find_songs

    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(shutil.copy(folder / "corpus.zip", scratch))
        unpack(archive, Path(scratch, "out"), "https://host/corpus.zip")
        found = find_songs(Path(scratch, "out"))
        assert (len(found["train"]), len(found["test"])) == (94, 50)


@dataclass(frozen=True)
class Reader:
    """A reader, and how the files of its folder are damaged."""

    read: Callable[[Path], None]
    damage: Callable[[bytes, random.Random], bytes] = damage


READERS = {
    "model.json": Reader(read_card, damage_json),
    "weights": Reader(read_weights),
    "params": Reader(read_params),
    "csv": Reader(read_csv),
    "scores": Reader(read_scores, damage_json),
    "spleeter.json": Reader(read_spleeter_json, damage_json),
    "checkpoint": Reader(read_checkpoint),
    "shards": Reader(read_shards),
    "tflite": Reader(read_tflite),
    "manifest": Reader(read_manifest),
    "song": Reader(read_song),
    "corpus": Reader(read_corpus),
}


def fuzz(name: str, valid: Path, case: Path, *, cases: range, end: float = float("inf")) -> int:
    """Runs a reader on damaged copies of a folder; raises what it may not raise.

    Args:
        name: in READERS.
        valid: folder of files that it reads.
        case: a folder to make; after a failure it holds the damaged file.
        cases: numbers of the damages, each of which is always the same.
        end: when to stop, by time.monotonic.

    Returns:
        How many it has read.
    """
    reader = READERS[name]
    shutil.copytree(valid, case)
    reader.read(case)
    files = sorted(path for path in valid.rglob("*") if path.is_file())
    for number in cases:
        if time.monotonic() > end:
            return number - cases.start
        draw = random.Random(f"{name} {number}")
        file = draw.choice(files)
        data = file.read_bytes()
        of_json = file.suffix == ".json"
        changed = (damage_json if of_json else reader.damage)(data, draw)
        place = case / file.relative_to(valid)
        place.write_bytes(changed)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            reader.read(case)
        except UserError as error:
            text = " ".join(str(error).split())
            text.encode()
            assert 10 < len(text) < 2000, f"{number}: {text[:2000]}"
        except BaseException as error:
            error.add_note(f"case {number} of {name}, {file.name}: {case}")
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        place.write_bytes(data)
    shutil.rmtree(case)
    return len(cases)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {LIMIT_S} s")


def main() -> None:
    name, folder, seconds, seed = sys.argv[1:]
    signal.signal(signal.SIGALRM, _too_long)
    valid = Path(folder)
    READERS[name].read(valid)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, resource.RLIM_INFINITY))
    faulthandler.dump_traceback_later(float(seconds) + 5 * LIMIT_S, exit=True)
    start, end = int(seed), time.monotonic() + float(seconds)
    cases = range(start, start + 10**9)
    print(fuzz(name, valid, valid.with_suffix(".case"), cases=cases, end=end), "cases")


if __name__ == "__main__":
    main()
