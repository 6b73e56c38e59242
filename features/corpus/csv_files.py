"""Finding the tracks that CSV files in Spleeter's format describe."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.corpora import CorpusTrack, checked
from stemforge.features.corpus.manifest import Split
from stemforge.features.corpus.sources import MIXTURE, parts_of
from stemforge.text import brief, decode_text

MIX_COLUMN = "mix_path"
SEPARATORS = (",", ";", "\t")  # the last two are Excel's, in Europe and in its "Unicode text"
_CSV_KEYS = {"train": "train_csv", "valid": "validation_csv", "test": "test_csv"}


def read_csvs(
    csvs: Mapping[Split, str],
    *,
    root: str,
    stems: Sequence[str],
    mapping: Mapping[str, Sequence[str]] | None = None,
) -> list[CorpusTrack]:
    """Lists a corpus that CSV files in Spleeter's format describe.

    The header names `mix_path`, `<name>_path` for each stem or for what it is summed of, and
    `duration` (not needed here: lengths are read from the files). Relative paths start at `root`.
    A track is named after the folder of its mixture, or after the file where that name is taken.

    Spreadsheets and Windows write such files too: UTF-8 with a byte order mark, UTF-16 with one,
    semicolons or tabs between cells, backslashes in paths, blanks around cells, and empty rows
    are understood.

    Raises:
        UserError: a file or a column is missing, a file is not text or has no rows, a row has
            not the header's cells, or the mapping is not possible.
    """
    if not storage.is_folder(root):
        raise UserError(f"corpus.root={root}: no such folder")
    parts = parts_of(stems, mapping)
    columns = {source: [_column(name) for name in names] for source, names in parts.items()}
    wanted = [column for named in columns.values() for column in named]
    tracks = []
    for split, path in csvs.items():
        try:
            rows = _read_rows(storage.read_bytes(path), wanted)
        except FileNotFoundError:
            raise UserError(f"corpus.{_CSV_KEYS[split]}={path}: no such file") from None
        except ValueError as error:
            raise UserError(f"corpus.{_CSV_KEYS[split]}={path}: {error}") from None
        for row in rows:
            files = {
                source: tuple(storage.join(root, row[column]) for column in named)
                for source, named in columns.items()
            }
            tracks.append(CorpusTrack(_folder_name(files[MIXTURE][0]), split, files, {}, True))
    names = Counter(track.name for track in tracks)
    return checked(
        replace(track, name=_file_name(track.files[MIXTURE][0])) if names[track.name] > 1 else track
        for track in tracks
    )


def _column(name: str) -> str:
    return MIX_COLUMN if name == MIXTURE else f"{name}_path"


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
