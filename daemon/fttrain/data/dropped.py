"""Rows that were left out: all of them in a file of JSON lines, the first of them for the report.

It must never hold more rows than the report shows, however many are bad.
"""

from __future__ import annotations

import json
import shutil
from bisect import insort
from pathlib import Path
from types import TracebackType
from typing import TextIO

from finetuned.v1 import data_report_pb2

SHOWN = 100
_LONGEST_REASON = 300


class Dropped:
    """The list of one preparation. The file is there only once a row was left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Those that a strict job does not bear.
        self.bad = 0
        self.first_bad = ""
        # In the order of the sources and their rows, although rows are dropped in two readings.
        self.shown: list[data_report_pb2.DroppedRow] = []
        self._file: TextIO | None = None
        path.unlink(missing_ok=True)

    def add(self, file: data_report_pb2.SourceReport, index: int, number: int, reason: str, *, bad: bool = True) -> str:
        """Lists a row of the file with this report, at this index of the report; answers with the reason as shown.

        `bad`: nobody asked for such rows to be left out.
        """
        # A template's own words, or a role, can be of any length.
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8")
        line = {"source": index, "file": Path(file.path).name, "row": number, "reason": reason}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if bad:
            self.bad += 1
            self.first_bad = self.first_bad or f"row {number} of {line['file']}: {reason}"
        row = data_report_pb2.DroppedRow(source=index, row=number, reason=reason)
        insort(self.shown, row, key=lambda dropped: (dropped.source, dropped.row))
        del self.shown[SHOWN:]
        return reason

    def copy(self, target: Path) -> None:
        """Copies the list as it is now, if there is one."""
        if self._file is not None:
            self._file.flush()
            shutil.copyfile(self.path, target)

    def __enter__(self) -> Dropped:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
