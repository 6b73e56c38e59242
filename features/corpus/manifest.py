"""What a track is, its row in the manifest tracks.parquet, and the table of rejects."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import MIXTURE, check_stem_names
from stemforge.features.shards.blocks import name_hash
from stemforge.parquet import read_rows

MANIFEST_VERSION = "1"
_COPY = "/"  # in no song's own name, which is that of a file or folder
Split = Literal["train", "valid", "test"]
TrackReason = Literal[
    "decode_error",
    "missing_stem",
    "length_mismatch",
    "sample_rate",
    "too_short",
    "inconsistent_mixture",
    "failed",  # an unexpected error
]
BlockReason = Literal["non_finite", "silent_mixture", "silent_targets", "clipped"]
Reason = TrackReason | BlockReason


def copy_name(song: str, number: int) -> str:
    """The name of a song's copy in another pitch and tempo; also its folder."""
    return f"{song}{_COPY}copy {number}"


def song_of(track: str) -> str:
    """The name of the song that a track is, or is a copy of."""
    return track.partition(_COPY)[0]


def is_copy(track: str) -> bool:
    """Whether a track's name is that of a copy."""
    return _COPY in track


@dataclass(frozen=True)
class Source:
    """One source of a track, the mixture among them.

    Attributes:
        name: "mixture" or a stem's name.
        path: WAV file, relative to the manifest's audio root, POSIX; of a track whose audio stayed
            in a remote corpus, the corpus' own file, relative to the corpus.
        subtype: soundfile's name of the sample format.
        peak: largest absolute sample, full scale at 1.
        rms: root mean square over samples and channels, full scale at 1.
        clipped_values: values limited to full scale at conversion.
        file_sha256: of the file that the corpus holds; of several, of the lines of their sha256.
        pcm_sha256: of the samples, little endian, as stored in `path`.
    """

    name: str
    path: str
    subtype: str
    peak: float
    rms: float
    clipped_values: int
    file_sha256: str
    pcm_sha256: str


@dataclass(frozen=True)
class Track:
    """A row of the manifest.

    Attributes:
        name: unique in the corpus, as storage.comparable gives it, or that of a copy (copy_name).
        split: "train", "valid" or "test".
        samples: length of every source, per channel.
        sample_rate_hz: sampling rate of every source.
        duration_s: samples / sample_rate_hz.
        residual_db: energy of mixture minus sum of stems, against the mixture's; NaN for
            a silent mixture, or where only some of the stems are used. AAC corpora lie at
            -20 to -30 dB.
        ffmpeg: version that decoded it; empty where ffmpeg was not needed.
        sources: the mixture first, then the stems.
    """

    name: str
    split: Split
    samples: int
    sample_rate_hz: int
    duration_s: float
    residual_db: float
    ffmpeg: str
    sources: tuple[Source, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Track":
        """A track from dataclasses.asdict of it, as JSON and Parquet keep it."""
        sources = tuple(Source(**source) for source in row["sources"])
        return cls(**{**row, "sources": sources})

    @property
    def is_complete(self) -> bool:
        """Whether its stems are all of the mixture. A silent mixture has nothing else."""
        return not math.isnan(self.residual_db) or self.source(MIXTURE).rms == 0.0

    def source(self, name: str) -> Source:
        """The source of that name."""
        return next(source for source in self.sources if source.name == name)


@dataclass(frozen=True)
class Reject:
    """Why a track (block is None) or one of its blocks is not used.

    Attributes:
        track: its name.
        split: of the track.
        block: index of the block in the song, or None for the whole track.
        reason: one word of Reason.
        value: the quantity that was compared with a threshold, where the reason has one.
        detail: what a user needs to find the cause.
    """

    track: str
    split: Split
    block: int | None
    reason: Reason
    value: float | None
    detail: str


@dataclass(frozen=True)
class Manifest:
    """The decoded corpus.

    Attributes:
        audio_root: folder that the sources' paths are relative to.
        stems: names of the stems, in the order of params.yaml.
        tracks: sorted by split and name.
        corpus: URL of the corpus that holds the audio of the train and valid splits; empty where
            the audio root does.
    """

    audio_root: Path
    stems: tuple[str, ...]
    tracks: tuple[Track, ...]
    corpus: str = ""

    def split(self, split: Split) -> list[Track]:
        """The tracks of one split, in order."""
        return [track for track in self.tracks if track.split == split]

    def path(self, track: Track, source: str) -> Path:
        """The path of a source's WAV file; in a remote corpus only the test split has them."""
        return self.audio_root / track.source(source).path


_SOURCE = pa.struct(
    [
        ("name", pa.string()),
        ("path", pa.string()),
        ("subtype", pa.string()),
        ("peak", pa.float64()),
        ("rms", pa.float64()),
        ("clipped_values", pa.int64()),
        ("file_sha256", pa.string()),
        ("pcm_sha256", pa.string()),
    ]
)
_MANIFEST = pa.schema(
    [
        ("name", pa.string()),
        ("split", pa.string()),
        ("samples", pa.int64()),
        ("sample_rate_hz", pa.int64()),
        ("duration_s", pa.float64()),
        ("residual_db", pa.float64()),
        ("ffmpeg", pa.string()),
        ("sources", pa.list_(_SOURCE)),
    ]
)
_REJECTS = pa.schema(
    [
        ("track", pa.string()),
        ("split", pa.string()),
        ("block", pa.int64()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("detail", pa.string()),
    ]
)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes tracks.parquet; the same manifest gives the same bytes."""
    metadata = {
        "stemforge.manifest": MANIFEST_VERSION,
        "stemforge.audio_root": manifest.audio_root.as_posix(),
        "stemforge.stems": ",".join(manifest.stems),
    }
    if manifest.corpus:
        metadata["stemforge.corpus"] = manifest.corpus
    rows = [dataclasses.asdict(track) for track in manifest.tracks]
    pq.write_table(pa.Table.from_pylist(rows, _MANIFEST.with_metadata(metadata)), path)


def read_manifest(path: Path) -> Manifest:
    """Reads tracks.parquet.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    rows, metadata = _read_table(path, _MANIFEST)
    version = metadata.get("stemforge.manifest")
    if version != MANIFEST_VERSION:
        raise UserError(
            f"{path}: manifest version {version} is not {MANIFEST_VERSION}: decode the corpus again"
        )
    stems = tuple(metadata.get("stemforge.stems", "").split(","))
    try:
        check_stem_names(stems)
    except UserError as error:
        raise UserError(f"{path}: {error}: decode the corpus again") from None
    tracks = []
    for row in rows:
        row["name"] = storage.comparable(row["name"])  # earlier versions kept the files' spelling
        track = Track.from_row(row)
        names = tuple(source.name for source in track.sources)
        if names != (MIXTURE, *stems) or track.samples < 0 or track.sample_rate_hz < 1:
            raise UserError(f"{path}: damaged at track {track.name!r}: decode the corpus again")
        tracks.append(track)
    root = Path(metadata.get("stemforge.audio_root", ""))
    return Manifest(root, stems, tuple(tracks), metadata.get("stemforge.corpus", ""))


def rejects_table(rejects: Iterable[Reject]) -> Any:
    """A table of rejects, sorted by track and block."""
    ordered = sorted(rejects, key=lambda r: (r.track, -1 if r.block is None else r.block, r.reason))
    rows = [dataclasses.asdict(reject) for reject in ordered]
    return pa.Table.from_pylist(rows, _REJECTS)


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Writes a table of rejects; the same rejects give the same bytes."""
    pq.write_table(rejects_table(rejects), path)


def read_rejects(path: Path) -> list[Reject]:
    """Reads a table of rejects.

    Raises:
        UserError: it is missing or damaged.
    """
    rows, _ = _read_table(path, _REJECTS, optional=("block", "value"))
    return [Reject(**row) for row in rows]


def _read_table(path: Path, schema: Any, *, optional: Collection[str] = ()) -> Any:
    try:
        rows, metadata = read_rows(path, schema, optional=optional)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: run `dvc repro` up to its stage") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}: run its stage again") from None
    if odd := {row["split"] for row in rows} - {*get_args(Split)}:
        raise UserError(f"{path}: split {min(odd)!r}: not supported: run its stage again")
    return rows, metadata


def choose_valid(train: Sequence[str], *, share: float, official: Sequence[str]) -> set[str]:
    """Which training tracks are held out for validation.

    Args:
        train: names of all training tracks.
        share: share of them to hold out, in (0, 1).
        official: musdb's own validation tracks.

    Returns:
        musdb's own tracks where the corpus holds all of them, else the
        max(1, round(share n)) names of smallest sha256. Empty for a single track.
    """
    if set(official) <= set(train):
        return set(official)
    return choose_share(train, share)


def choose_share(names: Sequence[str], share: float) -> set[str]:
    """The max(1, round(share n)) of n names that have the smallest sha256; none of a single one."""
    if len(names) < 2:
        return set()
    return set(sorted(names, key=name_hash)[: max(1, round(share * len(names)))])
