"""One file of the spec: what format it has, which of its rows can be used, and those rows as internal forms.

A source is read twice, once to judge it and once to tokenise it, so that memory does not grow with it and bad input is
told before any library is loaded. It must never import more than the standard library and the messages.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from finetuned.v1 import data_report_pb2, training_pb2
from fttrain.data.formats import LAYOUTS, Fields, Format, Layout
from fttrain.data.forms import Form
from fttrain.data.problems import BadRow, counted, kind, listed, nearest, refused
from fttrain.data.readers import read_rows
from fttrain.failure import Refused

# Rows whose columns are looked at: the first alone may lack an optional or a forgotten one.
_LOOKED_AT = 50
DROPPED_SHOWN = 100
_LONGEST_REASON = 300
_REASONS_COUNTED = 1000
Progress = Callable[[], None]


class Source:
    """A DataSource of the spec. `field` is its place there, e.g. data.train[0]; `index` its place in the report."""

    def __init__(self, spec: training_pb2.DataSource, field: str, index: int) -> None:
        self.spec = spec
        self.field = field
        self.index = index
        self.path = Path(spec.path)
        self.where = f"{field}: {self.path.name}"
        self.usable = 0
        self.dropped: list[data_report_pb2.DroppedRow] = []
        self.report = data_report_pb2.SourceReport(path=spec.path)
        self._reasons: Counter[str] = Counter()
        self._names: Mapping[str, str] = {}
        try:
            self._version = self._stat()
            with self.path.open("rb") as file:
                self.report.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise refused(
                f"{self.where} cannot be read: {error.strerror} ({self.path})", f"set {field}.path to a readable file"
            ) from error

    @property
    def layout(self) -> Layout:
        """The format's layout; known once `tell` was called."""
        return LAYOUTS[self.report.format]

    def tell(self, taken: Collection[str]) -> None:
        """Settles the format and the column names from the spec and the first rows. Raises Refused.

        `taken`: names of the formats that the stage trains on.
        """
        rows = islice(read_rows(self.path, self.where), _LOOKED_AT)
        found = list(dict.fromkeys(str(column) for _, row in rows if isinstance(row, dict) for column in row))
        columns = {name.name: value for name, value in self.spec.columns.ListFields()}
        if not found:
            raise self._without_objects()
        for name, column in columns.items():
            if name not in ("role", "content") and column not in found:
                raise refused(
                    f"{self.field}.columns.{name}: {self.path.name} has no column {column!r}; "
                    f"it has {listed(found)}{nearest(column, found)}",
                    f"set {self.field}.columns.{name} to one of them",
                )
        self.report.format = self.spec.format or self._told_by(columns, found, taken)
        unused = [name for name in columns if name not in (*self.layout.required, *self.layout.optional)]
        if unused:
            raise refused(
                f"{self.field}.columns.{unused[0]}: {self.layout.name} rows have no {unused[0]}; "
                f"accepted are {listed((*self.layout.required, *self.layout.optional))}",
                f"remove it, or set {self.field}.format",
            )
        missing = self.layout.missing(columns, found)
        if missing:
            raise refused(
                f"{self.where} has no column {missing[0]!r}, which {self.layout.name} rows need; "
                f"it has {listed(found)}{nearest(missing[0], found)}",
                f"set {self.field}.columns to the file's names, or {self.field}.format to another format",
            )
        self._names = self.layout.names(columns, found)

    def check(self, progress: Progress) -> None:
        """Reads the rows once and counts them, up to max_samples usable ones. Raises Refused when none can be used."""
        limit = self.spec.max_samples if self.spec.HasField("max_samples") else None
        self.usable = sum(1 for _ in islice(self._forms(progress, self.drop), limit))
        self.report.rows_read = self.usable + self.report.rows_dropped
        if not self.usable:
            advice = f"mend the rows, or set {self.field}.format and {self.field}.columns"
            raise self.nothing_left("can be used", advice)

    def forms(self, progress: Progress) -> Iterator[tuple[int, Form]]:
        """The usable rows that `check` counted, with their numbers. Raises Refused if the file changed meanwhile."""
        yield from islice(self._forms(progress, lambda _number, _reason: None), self.usable)
        if self._stat() != self._version:
            raise refused(f"{self.where} changed while it was read", "retry the job when the file is no longer written")

    def drop(self, number: int, reason: str) -> None:
        """Leaves a row out and remembers why; the report shows the first ones."""
        self.report.rows_dropped += 1
        # A template's own words, or a role, can be of any length.
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
        if reason in self._reasons or len(self._reasons) < _REASONS_COUNTED:
            self._reasons[reason] += 1
        row = data_report_pb2.DroppedRow(source=self.index, row=number, reason=reason)
        # In order, although rows are dropped in two readings.
        insort(self.dropped, row, key=lambda dropped: dropped.row)
        del self.dropped[DROPPED_SHOWN:]

    def nothing_left(self, verb: str, advice: str) -> Refused:
        """The failure of a source of which no row `verb`, with the commonest reason."""
        if not self._reasons:
            return refused(f"{self.where} has no rows", f"set {self.field}.path to a file with rows")
        reason, count = self._reasons.most_common(1)[0]
        first = next((row.row for row in self.dropped if row.reason == reason), 1)
        return refused(
            f"{self.where}: no row {verb}; {count} of {counted(self.report.rows_read)}, e.g. row {first}: {reason}",
            advice,
        )

    def _forms(self, progress: Progress, drop: Callable[[int, str], None]) -> Iterator[tuple[int, Form]]:
        for number, row in read_rows(self.path, self.where):
            progress()
            try:
                yield number, self._form(row)
            except BadRow as bad:
                drop(number, str(bad))

    def _form(self, row: Any) -> Form:
        if not isinstance(row, dict):
            raise BadRow(f"the row is {kind(row)}; accepted is an object")
        if None in row:
            raise BadRow("the row has more cells than the file has columns")
        return self.layout.read(Fields(row, self._names))

    def _told_by(self, columns: Mapping[str, str], found: list[str], taken: Collection[str]) -> Format:
        tried = {f: layout for f, layout in LAYOUTS.items() if layout.name in taken or not layout.told_where_taken}
        for format_, layout in tried.items():
            if not layout.missing(columns, found):
                return format_
        known = sorted({name for layout in tried.values() for name in (*layout.required, layout.turns_column)})
        unknown = [name for name in found if name not in known]
        likely = next((f"{like} by {name!r}" for name in unknown if (like := nearest(name, known))), "")
        accepted = "; ".join(f"{layout.name} ({', '.join(layout.missing({}, ()))})" for layout in tried.values())
        raise refused(
            f"{self.where}: no format is told by its columns {listed(found)}{likely}; accepted are {accepted}",
            f"rename the columns, or name them in {self.field}.columns",
        )

    def _without_objects(self) -> Refused:
        first = next(read_rows(self.path, self.where), None)
        if first is None:
            return refused(f"{self.where} has no rows", f"set {self.field}.path to a file with rows")
        number, row = first
        found = "an object without columns" if row == {} else kind(row)
        return refused(
            f"{self.where} row {number} is {found}; accepted are objects with columns", "write each row as an object"
        )

    def _stat(self) -> tuple[int, int, int]:
        stat = self.path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
