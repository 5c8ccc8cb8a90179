"""Reads the rows of one file, one at a time, whatever its size: text of several kinds, also compressed, and tables.

A reader yields (number, value), the number as DroppedRow.row means it, and judges only the file: what a row holds is
for `formats`. It must never load a whole file, nor a library before the file's kind asks for one.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TextIO

from fttrain.data.json_lists import malformed, read_list
from fttrain.data.problems import refused

Row = tuple[int, Any]

# Enough to see what a JSON text begins with.
_BUFFER = 1 << 16
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_LONGEST_CELL = 1 << 30


def kind_of(path: Path) -> str:
    """The ending that tells the kind of a file, e.g. ".jsonl", also of one that is compressed."""
    return Path(path.stem if path.suffix.lower() in COMPRESSED else path.name).suffix.lower()


def read_rows(path: Path, where: str) -> Iterator[Row]:
    """The rows of a file, in order. Raises Refused, opening with `where`, when it is not what its name says."""
    kind, compression = kind_of(path), path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    if kind in TABLES and not compression:
        # Loaded here: half a second that the other kinds need not pay.
        from fttrain.data import tables

        yield from tables.read_parquet(path, where) if kind == ".parquet" else tables.read_arrow(path, where)
    elif kind in TEXTS:
        yield from _texts(path, kind, compression, where)
    else:
        raise refused(
            f"{where} has the ending {''.join(path.suffixes[-2:]) or '(none)'}; accepted are {', '.join(TEXTS)}, "
            f"each also as {' or '.join(COMPRESSED)}, and {', '.join(TABLES)}",
            "convert or rename the file",
        )


def _texts(path: Path, kind: str, compression: str, where: str) -> Iterator[Row]:
    try:
        with _open(path, compression) as raw:
            # utf-8-sig: spreadsheets put a byte order mark first, which would become part of the first column's name.
            file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="" if kind == ".csv" else None)
            yield from TEXTS[kind](file, where)
    except UnicodeDecodeError as error:
        raise refused(f"{where} is not UTF-8 text: {error.reason}", "save the file as UTF-8") from error
    except (EOFError, zlib.error, OSError) as error:
        if not compression:
            raise
        raise refused(
            f"{where} is not a whole {compression} file: {error}", "compress or copy the file anew"
        ) from error


def _open(path: Path, compression: str) -> Any:
    """The bytes of a file, unpacked as they are read; `peek` shows the next ones."""
    if compression == ".gz":
        return gzip.open(path)
    if compression == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _BUFFER)
    return path.open("rb", buffering=_BUFFER)


def _json(file: TextIO, where: str) -> Iterator[Row]:
    """A list of rows; JSON lines under this name are common and as good."""
    first = file.buffer.peek(_BUFFER).lstrip(_BEFORE_JSON)[:1]  # type: ignore[attr-defined]
    if first == b"[":
        return read_list(file, where)
    if first in (b"{", b""):
        return _json_lines(file, where)
    raise refused(
        f"{where} begins with {file.read(_BUFFER).strip()[:1]!r}; "
        "accepted is a JSON list of objects, or one object a line",
        "write the rows as a JSON list",
    )


def _json_lines(file: TextIO, where: str) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.isspace():
            try:
                # Without the line end, behind which an error would be told of the next line.
                yield number, json.loads(line.rstrip("\r\n"))
            except JSONDecodeError as error:
                raise malformed(where, number, error.msg, error.colno) from error


def _csv(file: TextIO, where: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        yield from enumerate(csv.DictReader(file, strict=True), 1)
    except csv.Error as error:
        raise refused(
            f"{where} is not valid CSV: {error}", "quote cells that hold commas, quotes or line ends"
        ) from error


def _paragraphs(file: TextIO, _where: str) -> Iterator[Row]:
    """Blank lines part the rows."""
    lines: list[str] = []
    number = 1
    for line in file:
        if not line.isspace():
            lines.append(line)
        elif lines:
            yield number, {"text": "".join(lines).strip("\n")}
            number, lines = number + 1, []
    if lines:
        yield number, {"text": "".join(lines).strip("\n")}


TEXTS: dict[str, Callable[[TextIO, str], Iterator[Row]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".txt": _paragraphs,
}
TABLES = (".parquet", ".arrow")
COMPRESSED = (".gz", ".zst")
