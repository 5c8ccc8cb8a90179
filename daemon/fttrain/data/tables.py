"""Reads the rows of a column file a batch at a time: Parquet, and Arrow as file or stream.

Only this room and the trainer's know pyarrow; other kinds of files need not wait for it. It must never hold more than
one batch of rows as Python values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from fttrain.data.problems import refused

_ROWS_AT_ONCE = 1024


def read_parquet(path: Path, where: str) -> Iterator[tuple[int, Any]]:
    """The rows with their numbers, from 1. Raises Refused, opening with `where`, when it is no Parquet file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _rows(file.iter_batches(batch_size=_ROWS_AT_ONCE))
    except pyarrow.ArrowException as error:
        raise refused(f"{where} is not a valid Parquet file: {error}", "write the file anew") from error


def read_arrow(path: Path, where: str) -> Iterator[tuple[int, Any]]:
    """The same of an Arrow file, or of an Arrow stream, which is what `datasets` saves."""
    try:
        with pyarrow.memory_map(str(path)) as source:
            yield from _rows(_batches(source))
    except (pyarrow.ArrowException, OSError) as error:
        raise refused(f"{where} is not a valid Arrow file: {error}", "write the file anew") from error


def _batches(source: Any) -> Iterator[Any]:
    try:
        file = pyarrow.ipc.open_file(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        yield from pyarrow.ipc.open_stream(source)
    else:
        yield from (file.get_batch(index) for index in range(file.num_record_batches))


def _rows(batches: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            for row in batch.slice(start, _ROWS_AT_ONCE).to_pylist():
                number += 1
                yield number, row
