"""Finding the tracks of a corpus: MUSDB folders of either kind, or Spleeter's CSV files."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Split, choose_valid
from stemforge.features.corpus.sources import MIXTURE, MUSDB_STREAMS, STEM_SUFFIX
from stemforge.text import brief, decode_text

WAV_SUFFIX = ".wav"

# The training songs that musdb holds out for validation (configs/mus.yaml, validation_tracks).
MUSDB_VALIDATION_TRACKS = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)


@dataclass(frozen=True)
class CorpusTrack:
    """A track as the corpus holds it.

    Attributes:
        name: unique in the corpus, as storage.comparable gives it.
        split: "train", "valid" or "test".
        files: path per source: the same .stem.mp4 file for all of them, or a file each.
        streams: audio stream per source inside a .stem.mp4; empty where each source has a file.
        is_complete: whether these are all stems, so that they should add up to the mixture.
        is_decoded: whether its sources are decoded to WAV files, or are such files. This is so
            for all tracks of a corpus or for none, since the manifest's paths start at one folder.
    """

    name: str
    split: Split
    files: Mapping[str, str]
    streams: Mapping[str, int]
    is_complete: bool
    is_decoded: bool = False


def find_tracks(
    root: str,
    *,
    stems: Sequence[str],
    root_label: str | None = None,
    stems_label: str = "corpus.stems=",
) -> list[CorpusTrack]:
    """Lists a MUSDB18 (.stem.mp4) or MUSDB18-HQ (folders of WAV files) corpus.

    Args:
        root: folder with train/ and test/ in it, local or a URL.
        stems: names of the stems that are wanted.
        root_label: what errors call the folder; by default as params.yaml does.
        stems_label: what errors put before the name of a stem.

    Returns:
        Tracks sorted by split and name; no file has been opened.

    Raises:
        UserError: no such folder, no tracks in it, or a stem that .stem.mp4 files do not have.
    """
    root_label = root_label or f"corpus.root={root}"
    if not storage.is_folder(root):
        raise UserError(f"{root_label}: no such folder")
    complete = set(stems) >= MUSDB_STREAMS.keys() - {MIXTURE}
    tracks = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        folder = storage.join(root, split)
        names = storage.list_files(folder)
        songs: dict[str, list[str]] = {}
        for name in (*names, *storage.empty_entries(folder)):
            song, *inside = name.split("/")
            if len(inside) == 1:
                songs.setdefault(song, []).append(inside[0])
            elif not inside and name.lower().endswith(STEM_SUFFIX):
                place = storage.join(folder, name)
                tracks.append(_stem_file(place, split, stems, stems_label=stems_label))
            elif not inside and name not in names:
                songs[name] = []  # an empty folder: a track whose files are missing
        for song, there in songs.items():
            files = _song_files(storage.join(folder, song), there, (MIXTURE, *stems))
            tracks.append(CorpusTrack(song, split, files, {}, complete))
    if not tracks:
        raise UserError(
            f"{root_label}: no tracks: expected *{STEM_SUFFIX} files or folders of WAV "
            "files in its train/ and test/"
        )
    return _checked(tracks)


def _song_files(folder: str, there: Sequence[str], sources: Sequence[str]) -> dict[str, str]:
    """The place of each source's WAV file, in whatever case it is written; it may be missing.

    Raises:
        UserError: a source has two files.
    """
    found: dict[str, str] = {}
    for name in there:
        folded = storage.folded(name)
        if found.setdefault(folded, name) != name and folded in map(_wav, sources):
            raise UserError(f"{folder}: both {found[folded]} and {name}: remove one")
    return {
        source: storage.join(folder, found.get(_wav(source), f"{source}.wav")) for source in sources
    }


def _wav(source: str) -> str:
    return storage.folded(f"{source}.wav")


def _stem_file(path: str, split: Split, stems: Sequence[str], *, stems_label: str) -> CorpusTrack:
    unknown = [stem for stem in stems if stem not in MUSDB_STREAMS]
    if unknown:
        raise UserError(
            f"{stems_label}{unknown[0]}: {STEM_SUFFIX} files hold drums, bass, other and vocals"
        )
    sources = (MIXTURE, *stems)
    return CorpusTrack(
        storage.name(path)[: -len(STEM_SUFFIX)],
        split,
        dict.fromkeys(sources, path),
        {name: MUSDB_STREAMS[name] for name in sources},
        set(sources) == MUSDB_STREAMS.keys(),
    )


def read_csvs(csvs: Mapping[Split, str], *, root: str, stems: Sequence[str]) -> list[CorpusTrack]:
    """Lists a corpus that CSV files in Spleeter's format describe.

    The header names `mix_path`, `<stem>_path` for each stem, and `duration` (not needed
    here: lengths are read from the files). Relative paths start at `root`. A track is
    named after the folder of its mixture, or after the file where that name is taken.

    Spreadsheets and Windows write such files too: UTF-8 with a byte order mark, UTF-16 with one,
    semicolons or tabs between cells, backslashes in paths, blanks around cells, and empty rows
    are understood.

    Raises:
        UserError: a file or a column is missing, a file is not text or has no rows, or a row has
            not the header's cells.
    """
    if not storage.is_folder(root):
        raise UserError(f"corpus.root={root}: no such folder")
    columns = {MIXTURE: MIX_COLUMN, **{stem: f"{stem}_path" for stem in stems}}
    tracks = []
    for split, path in csvs.items():
        try:
            rows = _read_rows(storage.read_bytes(path), tuple(columns.values()))
        except FileNotFoundError:
            raise UserError(f"corpus.{_CSV_KEYS[split]}={path}: no such file") from None
        except ValueError as error:
            raise UserError(f"corpus.{_CSV_KEYS[split]}={path}: {error}") from None
        for row in rows:
            files = {name: storage.join(root, row[column]) for name, column in columns.items()}
            tracks.append(CorpusTrack(_folder_name(files[MIXTURE]), split, files, {}, True))
    names = Counter(track.name for track in tracks)
    return _checked(
        replace(track, name=_file_name(track.files[MIXTURE])) if names[track.name] > 1 else track
        for track in tracks
    )


MIX_COLUMN = "mix_path"
SEPARATORS = (",", ";", "\t")  # the last two are Excel's, in Europe and in its "Unicode text"


def _read_rows(data: bytes, columns: Sequence[str]) -> list[dict[str, str]]:
    """The paths of a CSV file by column, a dictionary a row.

    Raises:
        ValueError: not text, not CSV, or not with these columns; the message is one line.
    """
    text = decode_text(data)
    text = re.sub(r"\A\s*sep=.[ \t]*\r?\n", "\n", text)  # Excel's own first line
    first = text.lstrip().partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)  # the first of equals: a comma
    # strict: without it a quote that is not closed swallows the rest of the file.
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    try:
        for found in reader:
            cells = [cell.strip() for cell in found]
            if not any(cells):
                continue
            if not header:
                header = cells
                _check_header(header, columns)
                continue
            if len(cells) < len(header) or any(cells[len(header) :]):
                count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
                raise ValueError(
                    f"line {reader.line_num}: {count}, but the header has "
                    f"{len(header)}: complete the row, and put quotes around a cell with "
                    f"{separator!r} in it"
                )
            row = dict(zip(header, cells, strict=False))
            rows.append({name: _path(row[name], name, reader.line_num) for name in columns})
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: not CSV: {error}: correct the line") from None
    if not rows:
        raise ValueError("no rows in it")
    return rows


def _check_header(header: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) != 1:
            what = "two columns" if column in header else "no column"
            raise ValueError(
                f"{what} {column} in it: its first line names {brief(', '.join(header))}"
            )


def _path(cell: str, column: str, line: int) -> str:
    """A path as this machine writes it."""
    if not cell:
        raise ValueError(f"line {line}: {column} is empty: name a file, or remove the row")
    if re.match(r"[A-Za-z]:[\\/]", cell):
        raise ValueError(
            f"line {line}: {column}={brief(cell)}: a drive of Windows: write the path relative to "
            "corpus.root"
        )
    return cell if not storage.is_local(cell) else cell.replace("\\", "/")


def _folder_name(path: str) -> str:
    # Without ".." in it, which is no name; but with symbolic links as they are.
    whole = os.path.abspath(path) if storage.is_local(path) else path
    return storage.name(storage.parent(whole)) or _file_name(path)


def _file_name(path: str) -> str:
    return storage.name(path).rsplit(".", 1)[0]


_CSV_KEYS = {"train": "train_csv", "valid": "validation_csv", "test": "test_csv"}


def _checked(tracks: Iterable[CorpusTrack]) -> list[CorpusTrack]:
    named = (replace(track, name=storage.comparable(track.name)) for track in tracks)
    ordered = sorted(named, key=lambda track: (track.split, track.name))
    places = {place for track in ordered for place in track.files.values()}
    if not all(place.lower().endswith(WAV_SUFFIX) for place in places):
        ordered = [replace(track, is_decoded=True) for track in ordered]
    for name, count in Counter(track.name for track in ordered).items():
        if count > 1:
            files = [t.files[MIXTURE] for t in ordered if t.name == name]
            raise UserError(
                f"track {name!r}: two have this name: {' and '.join(files[:2])}: rename one"
            )
    return ordered


def hold_out_valid(
    tracks: Sequence[CorpusTrack], *, share: float, official: Sequence[str]
) -> list[CorpusTrack]:
    """Moves training tracks to the valid split, unless the corpus names its own."""
    if any(track.split == "valid" for track in tracks):
        return list(tracks)
    train = [track.name for track in tracks if track.split == "train"]
    chosen = choose_valid(train, share=share, official=official)
    return [replace(track, split="valid") if track.name in chosen else track for track in tracks]
