"""What the ranks print, line by line, into logs.journal. Memory and lines are bounded whatever a rank prints.

It must never raise for what a rank printed or for a full disk: a line that cannot be kept is lost, the training goes
on.
"""

from __future__ import annotations

import time

from finetuned.v1 import event_pb2
from fttrain.journal import JournalWriter

LONGEST_LINE = 8192
_CUT = " … [cut]"


class LineSplitter:
    """Cuts a stream of bytes into lines as a terminal would show them: a carriage return starts its line over."""

    def __init__(self) -> None:
        self._pending = b""
        # The line was cut at its bound and already given out; skip to its end.
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, self._pending = (self._pending + data).split(b"\n")
        lines = []
        for line in whole:
            if not self._skipping:
                lines.append(_shown(line))
            self._skipping = False
        # Keep a carriage return at the very end: a line feed may follow it.
        self._pending = self._pending[self._pending.rfind(b"\r", 0, -1) + 1 :]
        if self._skipping:
            self._pending = b""
        elif len(self._pending) > LONGEST_LINE:
            lines.append(_shown(self._pending))
            self._pending, self._skipping = b"", True
        return lines

    def rest(self) -> list[str]:
        """What came after the last line end."""
        pending, self._pending = self._pending, b""
        return [_shown(pending)] if pending else []


class Log:
    """Writes LogLine records. `size_limit` bounds the journal in bytes: a job that floods it keeps its first lines."""

    def __init__(self, journal: JournalWriter, attempt: int, size_limit: int) -> None:
        self._journal = journal
        self._attempt = attempt
        self._size_limit = size_limit
        self._full = False

    def write(self, rank: int, text: str) -> None:
        """One line of `rank`; -1 is the keeper."""
        if self._full:
            return
        if self._journal.size > self._size_limit:
            self._full = True
            rank, text = -1, f"the log has reached {self._size_limit >> 20} MiB; further lines are not kept"
        line = event_pb2.LogLine(attempt=self._attempt, rank=rank, text=text)
        line.time.FromNanoseconds(time.time_ns())
        try:
            self._journal.append(line)
        except OSError:
            return

    def sync(self) -> None:
        """Puts what was written on the disk, as far as it can be."""
        try:
            self._journal.sync()
        except OSError:
            return


def _shown(line: bytes) -> str:
    line = line.removesuffix(b"\r")
    line = line[line.rfind(b"\r") + 1 :]
    text = line[: LONGEST_LINE + 1].decode(errors="replace")
    encoded = text.encode()
    if len(encoded) <= LONGEST_LINE:
        return text
    return encoded[: LONGEST_LINE - len(_CUT.encode())].decode(errors="ignore") + _CUT
