"""Parquet tables of ours, checked against their schema before their values are used."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stemforge.text import brief


def read_rows(
    source: Any, schema: Any, *, optional: Collection[str] = ()
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Reads a table of a known schema.

    Args:
        source: a path or a binary file.
        schema: pyarrow's, of the table.
        optional: columns that may hold nulls.

    Returns:
        The rows by column, and the file's own metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another schema.
    """
    try:
        table = pq.read_table(source)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        rows = table.to_pylist() if table.schema.equals(schema, check_metadata=False) else None
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"not a readable Parquet file: {brief(error)}") from None
    if rows is None:
        raise ValueError(f"its columns are not {', '.join(schema.names)} of the types of stemforge")
    for row in rows:
        if missing := [name for name in schema.names if name not in optional and _lacks(row[name])]:
            raise ValueError(f"{missing[0]}: a row without a value")
    return rows, metadata


def _lacks(value: object) -> bool:
    """Whether there is a null in a value."""
    if isinstance(value, dict):
        return any(map(_lacks, value.values()))
    return any(map(_lacks, value)) if isinstance(value, list) else value is None
