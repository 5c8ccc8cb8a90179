"""Reads the rows of one file, one at a time, whatever its size: .json, .jsonl, .csv, .txt and .parquet.

A reader yields (number, value), the number as DroppedRow.row means it, and judges only the file: what a row holds is
for `formats`. It must never load a whole file, nor a library before the file's kind asks for one.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, TextIO

from fttrain.data.problems import refused

Row = tuple[int, Any]

_CHUNK = 1 << 20
_SPACE = re.compile(r"\s*")
_LONGEST_CELL = 1 << 30


def read_rows(path: Path, where: str) -> Iterator[Row]:
    """The rows of a file, in order. Raises Refused, opening with `where`, when it is not what its name says."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise refused(
            f"{where} has the ending {path.suffix or '(none)'}; accepted are {', '.join(_READERS)}",
            "convert or rename the file",
        )
    if reader is _parquet:
        yield from _parquet(path, where)
        return
    try:
        # utf-8-sig: spreadsheets put a byte order mark first, which would become part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="" if reader is _csv else None) as file:
            yield from reader(file, where)
    except UnicodeDecodeError as error:
        raise refused(f"{where} is not UTF-8 text: {error.reason}", "save the file as UTF-8") from error


def _json(file: TextIO, where: str) -> Iterator[Row]:
    """A list of rows; JSON lines under this name are common and as good."""
    first = next((char for char in iter(lambda: file.read(1), "") if not char.isspace()), "")
    file.seek(0)
    if first == "[":
        return _array(file, where)
    if first in ("{", ""):
        return _json_lines(file, where)
    raise refused(f"{where} begins with {first!r}; accepted is a JSON list of objects, or one object a line", _FIX_JSON)


def _json_lines(file: TextIO, where: str) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.isspace():
            try:
                # Without the line end, behind which an error would be told of the next line.
                yield number, json.loads(line.rstrip("\r\n"))
            except JSONDecodeError as error:
                raise _malformed(where, number, error.msg, error.colno) from error


def _array(file: TextIO, where: str) -> Iterator[Row]:
    window = _Window(file, where)
    window.expect("[")
    if window.take("]"):
        return
    number = 0
    while True:
        number += 1
        yield number, window.value()
        if window.take("]"):
            return
        window.expect(",")


class _Window:
    """The part of a JSON text that is in memory: reads on as values need it and forgets what was read."""

    def __init__(self, file: TextIO, where: str) -> None:
        self._file = file
        self._where = where
        self._decoder = JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False
        # Of what was forgotten: its line ends, and the characters after the last of them.
        self._lines = 0
        self._columns = 0

    def take(self, char: str) -> bool:
        """Steps over `char`, and the white space before it, if it comes next."""
        self._skip_space()
        found = self._text.startswith(char, self._at)
        self._at += found
        return found

    def expect(self, char: str) -> None:
        """Steps over `char`, which must come next."""
        if not self.take(char):
            raise self._error(f"Expecting {char!r}", self._at)

    def value(self) -> Any:
        """The value that comes next."""
        self._skip_space()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if not self._may_be_cut(error):
                    raise self._error(error.msg, error.pos) from error
            else:
                if self._ended or (end < len(self._text) and not self._may_go_on(value, end)):
                    self._at = end
                    return value
            self._read_on()

    def _may_go_on(self, value: Any, end: int) -> bool:
        """Whether a number ends only because the window does, as `1.` of `1.5`."""
        return isinstance(value, int | float) and self._text[end] in ".eE"

    def _may_be_cut(self, error: JSONDecodeError) -> bool:
        """Whether more text could mend it: an error well before the window's end is one in the file."""
        near_the_end = error.pos + len("\\ud83d\\ude00") >= len(self._text)
        return not self._ended and (near_the_end or error.msg.startswith("Unterminated string"))

    def _skip_space(self) -> None:
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or self._ended:
                return
            self._read_on()

    def _read_on(self) -> None:
        gone = self._text[: self._at]
        self._lines += gone.count("\n")
        self._columns = len(gone) - 1 - gone.rfind("\n") + (0 if "\n" in gone else self._columns)
        # As much again as is held, so that a huge value is parsed anew only a few times.
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not more
        self._text, self._at = self._text[self._at :] + more, 0

    def _error(self, problem: str, position: int) -> Exception:
        before = self._text[:position]
        column = position - before.rfind("\n") + (0 if "\n" in before else self._columns)
        return _malformed(self._where, self._lines + before.count("\n") + 1, problem, column)


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


def _parquet(path: Path, where: str) -> Iterator[Row]:
    # Loaded here: half a second that the other kinds need not pay.
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1024)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except pyarrow.ArrowException as error:
        raise refused(f"{where} is not a valid Parquet file: {error}", "write the file anew") from error


def _malformed(where: str, line: int, problem: str, column: int) -> Exception:
    return refused(
        f"{where} line {line} is not valid JSON: {problem.removesuffix(' at')} at column {column}", _FIX_JSON
    )


_FIX_JSON = "mend or remove the line; `python -m json.tool` shows the same place"

_READERS: dict[str, Callable[[Any, str], Iterator[Row]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _paragraphs,
}
