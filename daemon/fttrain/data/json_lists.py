"""Reads a JSON list of values one at a time, whatever its size: only the value that comes next is in memory.

It judges the text alone, and names line and column of what is wrong. It must never hold what was read already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, TextIO

from fttrain.data.problems import refused

_CHUNK = 1 << 20
_SPACE = re.compile(r"\s*")
_FIX = "mend or remove the line; `python -m json.tool` shows the same place"


def read_list(file: TextIO, where: str) -> Iterator[tuple[int, Any]]:
    """The values with their numbers, from 1. Raises Refused, opening with `where`, at the first thing that is wrong."""
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
        return malformed(self._where, self._lines + before.count("\n") + 1, problem, column)


def malformed(where: str, line: int, problem: str, column: int) -> Exception:
    """The failure of a text that is not JSON, at a line and a column that count from 1."""
    return refused(f"{where} line {line} is not valid JSON: {problem.removesuffix(' at')} at column {column}", _FIX)
