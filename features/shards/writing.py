"""Computing one shard of features: read, transform, judge, encode, write, as a stream."""

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.ffmpeg import AudioError
from stemforge.features.audio.files import as_stereo, read_audio
from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.features.corpus.decoding import Unfit
from stemforge.features.corpus.manifest import Reject, Split, Track
from stemforge.features.corpus.sources import MIXTURE, PHASE
from stemforge.features.corpus.track_audio import Files, TrackAudio
from stemforge.features.shards.blocks import Block, cut_blocks
from stemforge.features.shards.encoding import (
    Encoding,
    PhaseEncoding,
    bytes_per_frame,
    encode,
    encode_phase,
    to_bytes,
)
from stemforge.features.shards.examples import make_example
from stemforge.features.shards.records import RecordFile, index_name, shard_name, write_index
from stemforge.features.shards.validity import Thresholds, reject_block
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Spectrum, Waveform, magnitude_stft, stft


@dataclass(frozen=True)
class FeatureConfig:
    """The parameters of features.

    Attributes:
        stems: names of the targets.
        framing: window length and hop.
        bins: number of lowest bins kept, F.
        block_frames: frames per block.
        encoding: how magnitudes are stored.
        mixture_phase: how the mixture's phases are stored, or None for not at all.
        thresholds: limits of validity.
        max_failed_tracks_ratio: the job fails if a larger share of tracks fails.
    """

    stems: tuple[str, ...]
    framing: Framing
    bins: int
    block_frames: int
    encoding: Encoding
    mixture_phase: PhaseEncoding | None
    thresholds: Thresholds
    max_failed_tracks_ratio: float

    @property
    def files(self) -> tuple[str, ...]:
        """Sources that have a file of their own in each shard."""
        phase = (PHASE,) if self.mixture_phase else ()
        return (MIXTURE, *self.stems, *phase)

    @property
    def frame_bytes(self) -> int:
        """Stored bytes of one frame of all files together, without scales and names."""
        magnitudes = bytes_per_frame(self.encoding, bins=self.bins) * (1 + len(self.stems))
        return magnitudes + (2 * self.bins if self.mixture_phase else 0)


@dataclass(frozen=True)
class Shard:
    """The work of writing one shard.

    Attributes:
        split: of the tracks.
        number: from 0.
        shards: number of shards in the split.
        tracks: in the order of writing.
    """

    split: Split
    number: int
    shards: int
    tracks: tuple[Track, ...]


@dataclass(frozen=True)
class ShardReport:
    """What was written.

    Attributes:
        split: of the shard.
        number: of the shard.
        files: size and sha256 by name, for info.json.
        cut: number of blocks cut.
        kept: number of blocks written.
        kept_frames: frames in them.
        rejects: the other blocks, and tracks that failed.
    """

    split: Split
    number: int
    files: dict[str, dict[str, Any]]
    cut: int
    kept: int
    kept_frames: int
    rejects: tuple[Reject, ...]


@dataclass(frozen=True)
class Done:
    """A track that was worked on, kept or rejected, and how long it took.

    Attributes:
        track: the track.
        open_s: seconds until its WAV files were there: decoded, copied or just found.
        transform_s: seconds for all else: reading, judging, transforming and writing.
    """

    track: Track
    open_s: float
    transform_s: float


class _TimedAudio:
    """Another TrackAudio, with the time that it takes to open a track."""

    def __init__(self, audio: TrackAudio) -> None:
        self._audio = audio
        self.open_s = 0.0

    @contextlib.contextmanager
    def open(self, track: Track) -> Iterator[Files]:
        """Files by source, the mixture first."""
        started_s = time.monotonic()
        with self._audio.open(track) as files:
            self.open_s = time.monotonic() - started_s
            yield files


class _TrackFailed(Exception):
    """A track could not be read; the argument is the error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def write_shard(
    shard: Shard,
    audio: TrackAudio,
    config: FeatureConfig,
    root: str,
    *,
    done: Callable[[Done], object] = lambda done: None,
    check: Callable[[], object] = lambda: None,
) -> ShardReport:
    """Computes a shard and writes its files under `root`.

    Files get their final names only when the whole shard is done. So a killed run leaves
    nothing that looks like a finished shard, and can simply be repeated.

    Args:
        shard: what to write.
        audio: where the tracks' audio is.
        config: what features are.
        root: features folder, local or a URL.
        done: called after each track.
        check: called before files are uploaded; may raise an exception instead.

    Returns:
        What was written. A track that cannot be read is a reject ("decode_error" for
        broken audio, else "failed" with its traceback) and leaves no block behind.

    Raises:
        OSError: the disk is full or cannot be written.
        UserError: audio cannot be fetched.
    """
    with contextlib.ExitStack() as stack:
        if storage.is_local(root):
            folder = Path(root)
        else:
            scratch = tempfile.TemporaryDirectory(prefix="stemforge-")
            folder = Path(stack.enter_context(scratch))
        (folder / shard.split).mkdir(parents=True, exist_ok=True)
        report = _write_files(shard, audio, config, folder, done)
        if not storage.is_local(root):
            check()
            for name in report.files:
                storage.upload(folder / name, storage.join(root, name))
    return report


def _write_files(
    shard: Shard,
    audio: TrackAudio,
    config: FeatureConfig,
    folder: Path,
    done: Callable[[Done], object],
) -> ShardReport:
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    cut = kept = frames = 0
    names = {s: shard_name(shard.split, s, shard.number, shard.shards) for s in config.files}
    with contextlib.ExitStack() as stack:
        files = {s: stack.enter_context(RecordFile(folder / name)) for s, name in names.items()}
        for track in shard.tracks:
            marks = {source: file.mark() for source, file in files.items()}
            before = len(rows), len(rejects), cut, kept, frames
            timed, started_s = _TimedAudio(audio), time.monotonic()
            try:
                for item in _guarded(encode_track(track, timed, config)):
                    cut += 1
                    if isinstance(item, Reject):
                        rejects.append(item)
                        continue
                    block, examples = item
                    kept += 1
                    frames += block.frames
                    for source, example in examples.items():
                        rows.append(_index_row(track, block, source, files[source].write(example)))
            except _TrackFailed as failure:
                for source, file in files.items():
                    file.go_back(marks[source])
                del rows[before[0] :], rejects[before[1] :]
                cut, kept, frames = before[2:]
                rejects.append(failed_track(track.name, track.split, failure.error))
            done(Done(track, timed.open_s, time.monotonic() - started_s - timed.open_s))
        entries = {names[source]: file.commit() for source, file in files.items()}
    index = index_name(shard.split, shard.number, shard.shards)
    entries[index] = write_index(folder / index, rows)
    return ShardReport(shard.split, shard.number, entries, cut, kept, frames, tuple(rejects))


def encode_track(
    track: Track, audio: TrackAudio, config: FeatureConfig
) -> Iterator[Reject | tuple[Block, dict[str, bytes]]]:
    """Cuts a song into blocks, checks and encodes them; it keeps one block in memory.

    Yields:
        A reject, or the block and its serialised example per file.
    """
    with audio.open(track) as files:
        for block in cut_blocks(
            config.framing.count(track.samples), block_frames=config.block_frames
        ):
            sources = {
                name: _read(files, name, block, config.framing) for name in (MIXTURE, *config.stems)
            }
            reject = reject_block(track, block, sources, config.thresholds, mixture=MIXTURE)
            if reject:
                yield reject
                continue
            examples = {
                name: _magnitude_example(track, block, waveform, config)
                for name, waveform in sources.items()
            }
            if config.mixture_phase:
                spectrum = stft(sources[MIXTURE], config.framing)[:, : config.bins]
                examples[PHASE] = _phase_example(track, block, spectrum)
            yield block, examples


def _read(files: Files, name: str, block: Block, framing: Framing) -> Waveform:
    """The samples under a block of one source: float32 [samples, 2]."""
    samples = framing.span(block.frames)
    start = block.start_frame * framing.step_samples
    waveform = read_audio(files[name], start=start, samples=samples)
    if len(waveform) != samples:
        raise AudioError(
            f"{name} ends at {(start + len(waveform)) / SAMPLE_RATE_HZ:.2f} s, before the song "
            "does: decode the corpus again"
        )
    return as_stereo(waveform)


def _magnitude_example(
    track: Track, block: Block, waveform: Waveform, config: FeatureConfig
) -> bytes:
    magnitudes = magnitude_stft(waveform, config.framing, bins=config.bins)
    encoded = encode(magnitudes, config.encoding)
    fields: dict[str, bytes | int] = {"values": to_bytes(encoded.values), **_origin(track, block)}
    if len(encoded.scale):
        fields["scale"] = encoded.scale.astype("<f4").tobytes()
    return make_example(fields)


def _phase_example(track: Track, block: Block, spectrum: Spectrum) -> bytes:
    return make_example({"values": to_bytes(encode_phase(spectrum)), **_origin(track, block)})


def _origin(track: Track, block: Block) -> dict[str, bytes | int]:
    return {
        "track": track.name.encode(),
        "block": block.index,
        "start_frame": block.start_frame,
        "frames": block.frames,
    }


def _index_row(track: Track, block: Block, source: str, span: tuple[int, int]) -> dict[str, Any]:
    return {
        "track": track.name,
        "block": block.index,
        "start_frame": block.start_frame,
        "frames": block.frames,
        "source": source,
        "offset": span[0],
        "length": span[1],
    }


def _guarded(items: Iterator[Any]) -> Iterator[Any]:
    """Yields the items; any failure to make one becomes a _TrackFailed."""
    try:
        yield from items
    except Exception as error:
        raise _TrackFailed(error) from error


def failed_track(name: str, split: Split, error: Exception) -> Reject:
    """The reject of a track that could not be measured or read.

    Args:
        name: of the track.
        split: of the track.
        error: what was raised.

    Raises:
        OSError, UserError: the error itself, where it is no fault of the track but of the disk, the
            bucket or the set-up: the runner tries again, or the job ends.
    """
    if isinstance(error, OSError) and error.errno in storage.DISK_ERRORS:
        raise error
    if isinstance(error, AudioError | Unfit):
        return Reject(name, split, None, "decode_error", None, str(error))
    if isinstance(error, UserError):
        raise error
    return Reject(name, split, None, "failed", None, describe_failure(error))


def describe_failure(error: Exception) -> str:
    """An exception and where it came from, in one line that is the same on every machine."""
    frames = traceback.extract_tb(error.__traceback__)
    calls = " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__}: {error} ({calls})"
