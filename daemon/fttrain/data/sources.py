"""One source of the spec: its files, what format they have, which rows can be used, and those rows as internal forms.

A source is read twice, once to judge it and once to tokenise it, so that memory does not grow with it and bad input is
told before any library is loaded. It must never import more than the standard library and the messages.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from finetuned.v1 import data_report_pb2, training_pb2
from fttrain.data.dropped import Dropped
from fttrain.data.formats import LAYOUTS, Fields, Format, Layout
from fttrain.data.forms import Form
from fttrain.data.problems import BadRow, counted, kind, listed, nearest, refused
from fttrain.data.readers import read_rows
from fttrain.data.turns import Spelling
from fttrain.failure import Refused

# Rows whose columns are looked at: the first alone may lack an optional or a forgotten one.
_LOOKED_AT = 50
_REASONS_COUNTED = 1000
Progress = Callable[[], None]
Place = tuple["File", int]


class File:
    """One file of the source `field`; `index` is its place in the report, `settled` that its path has no links."""

    def __init__(self, path: Path, field: str, index: int, *, settled: bool) -> None:
        self.path = path
        self.index = index
        self.where = f"{field}: {path.name}"
        self.report = data_report_pb2.SourceReport(path=str(path))
        # What the file calls each field of its format.
        self.names: Mapping[str, str] = {}
        try:
            self._version = self._stat()
            with path.open("rb") as file:
                if settled and Path(f"/proc/self/fd/{file.fileno()}").readlink() != path:
                    raise refused(f"{self.where} is a link now, and was none at submit", "submit the job again")
                self.report.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise refused(
                f"{self.where} cannot be read: {error.strerror} ({path})", f"set {field}.path to a readable file"
            ) from error

    def rows(self) -> Iterator[tuple[int, Any]]:
        """The rows with their numbers. Raises Refused if the file is not what its name says."""
        yield from read_rows(self.path, self.where)

    def check_unchanged(self) -> None:
        """Raises Refused if the file is another one than when its digest was taken."""
        if self._stat() != self._version:
            raise refused(f"{self.where} changed while it was read", "retry the job when the file is no longer written")

    def _stat(self) -> tuple[int, int, int]:
        stat = self.path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns


class Source:
    """A DataSource of the spec, whose place there is `field`, e.g. data.train[0]; `index` is its first file's."""

    def __init__(
        self, spec: training_pb2.DataSource, field: str, index: int, dropped: Dropped, paths: Collection[str]
    ) -> None:
        self.spec = spec
        self.field = field
        self.files = [File(Path(path), field, index + i, settled=path in spec.files) for i, path in enumerate(paths)]
        if "://" in spec.path:
            # Where it was fetched to is nobody's business.
            self.files[0].report.path = spec.path
        self.where = self.files[0].where if len(self.files) == 1 else f"{field}: {len(self.files)} files"
        self.usable = 0
        self._dropped = dropped
        self._reasons: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._spelling = _spelling(spec)

    @property
    def layout(self) -> Layout:
        """The format's layout; known once `tell` was called."""
        return LAYOUTS[next(file.report.format for file in self.files if file.report.format)]

    @property
    def rows_read(self) -> int:
        """How many were looked at."""
        return sum(file.report.rows_read for file in self.files)

    @property
    def rows_dropped(self) -> int:
        """How many were left out."""
        return sum(file.report.rows_dropped for file in self.files)

    def tell(self, taken: Collection[str]) -> None:
        """Settles the format and the column names from the spec and the first rows. Raises Refused.

        `taken`: names of the formats that the stage trains on.
        """
        for file in self.files:
            self._tell(file, taken)
        told = [file for file in self.files if file.report.format]
        other = next((file for file in told if file.report.format != told[0].report.format), None)
        if other:
            names = [f"{LAYOUTS[file.report.format].name} rows in {file.path.name}" for file in (told[0], other)]
            raise refused(
                f"{self.field} has {' and '.join(names)}; accepted are files of one format",
                "give each format a source of its own, or set the format of the source",
            )

    def check(self, progress: Progress) -> None:
        """Reads the rows once and counts them, up to max_samples usable ones. Raises Refused when none can be used."""
        limit = self.spec.max_samples if self.spec.HasField("max_samples") and not self.spec.shuffle else None
        for (file, _), _form in islice(self._forms(progress, self.drop), limit):
            self.usable += 1
            file.report.rows_read += 1
        for file in self.files:
            file.report.rows_read += file.report.rows_dropped
        if not self.usable:
            advice = f"mend the rows, or set {self.field}.format and {self.field}.columns"
            raise self.nothing_left("can be used", advice)

    def forms(self, progress: Progress) -> Iterator[tuple[Place, Form]]:
        """The usable rows that `check` counted, with their places. Raises Refused if a file changed meanwhile."""
        yield from islice(self._forms(progress, lambda _place, _reason: None), self.usable)
        for file in self.files:
            file.check_unchanged()

    def drop(self, place: Place, reason: str, *, asked: bool = False) -> None:
        """Leaves a row out and remembers why; `asked`: the spec wants such rows left out."""
        file, number = place
        file.report.rows_dropped += 1
        reason = self._dropped.add(file.report, file.index, number, reason, bad=not asked)
        if reason in self._reasons or len(self._reasons) < _REASONS_COUNTED:
            self._reasons[reason] += 1
            self._first.setdefault(reason, f"row {number}{f' of {file.path.name}' if len(self.files) > 1 else ''}")

    def nothing_left(self, verb: str, advice: str) -> Refused:
        """The failure of a source of which no row `verb`, with the commonest reason."""
        if not self._reasons:
            return self._empty()
        reason, count = self._reasons.most_common(1)[0]
        return refused(
            f"{self.where}: no row {verb}; {count} of {counted(self.rows_read)}, e.g. {self._first[reason]}: {reason}",
            advice,
        )

    def outcomes(self) -> Iterator[tuple[Place, Form | BadRow]]:
        """Every row, as a form or with the reason why it is none."""
        for file in self.files:
            for number, row in file.rows():
                try:
                    form: Form | BadRow = self._form(row, file.names)
                except BadRow as bad:
                    form = bad
                yield (file, number), form

    def _forms(self, progress: Progress, drop: Callable[[Place, str], None]) -> Iterator[tuple[Place, Form]]:
        for place, form in self.outcomes():
            progress()
            if isinstance(form, BadRow):
                drop(place, str(form))
            else:
                yield place, form

    def _form(self, row: Any, names: Mapping[str, str]) -> Form:
        if not isinstance(row, dict):
            raise BadRow(f"the row is {kind(row)}; accepted is an object")
        if None in row:
            raise BadRow("the row has more cells than the file has columns")
        return self.layout.read(Fields(row, names, self._spelling))

    def _tell(self, file: File, taken: Collection[str]) -> None:
        rows = list(islice(read_rows(file.path, file.where), _LOOKED_AT))
        found = list(dict.fromkeys(str(column) for _, row in rows if isinstance(row, dict) for column in row))
        columns = {name.name: value for name, value in self.spec.columns.ListFields() if name.name != "only"}
        if not rows and len(self.files) > 1:
            # Programs that write a folder leave some of its parts empty.
            return
        if not found:
            raise self._without_objects(file, rows)
        self._check_columns(file, columns, found)
        file.report.format = self.spec.format or self._told_by(file, columns, found, taken)
        layout = LAYOUTS[file.report.format]
        self._check_layout(file, layout, columns, found)
        file.names = layout.names(columns, found, only=self.spec.columns.only)
        file.report.decided = self._decided(file, layout, found)

    def _decided(self, file: File, layout: Layout, found: list[str]) -> str:
        """Why the rows are read as they are."""
        needed = [file.names.get(field, field) for field in layout.required]
        more = [file.names.get(field, field) for field in layout.optional]
        also = [column for column in more if column in found]
        how = "as the spec says" if self.spec.format else "told by its columns"
        return f"{how} {listed(needed)}{f'; read too: {listed(also)}' if also else ''}"

    def _check_layout(self, file: File, layout: Layout, columns: Mapping[str, str], found: list[str]) -> None:
        """Raises Refused unless the file has what rows of the format need, and the spec names nothing else."""
        unused = [name for name in columns if name not in (*layout.required, *layout.optional)]
        unlisted = [name for name in layout.required if self.spec.columns.only and name not in columns]
        if unlisted:
            raise refused(
                f"{self.field}.columns has only {listed(columns)}; {layout.name} rows need {unlisted[0]}",
                f"set {self.field}.columns.{unlisted[0]}, or leave {self.field}.columns.only out",
            )
        if unused:
            raise refused(
                f"{self.field}.columns.{unused[0]}: {layout.name} rows have no {unused[0]}; "
                f"accepted are {listed((*layout.required, *layout.optional))}",
                f"remove it, or set {self.field}.format",
            )
        missing = layout.missing(columns, found)
        if missing:
            raise refused(
                f"{file.where} has no column {missing[0]!r}, which {layout.name} rows need; "
                f"it has {listed(found)}{nearest(missing[0], found)}",
                f"set {self.field}.columns to the file's names, or {self.field}.format to another format",
            )

    def _check_columns(self, file: File, columns: Mapping[str, str], found: list[str]) -> None:
        for name, column in columns.items():
            # What only some rows have may be in none of the first ones.
            if name in ("role", "content") or column in found:
                continue
            raise refused(
                f"{self.field}.columns.{name}: {file.path.name} has no column {column!r}; "
                f"it has {listed(found)}{nearest(column, found)}",
                f"set {self.field}.columns.{name} to one of them",
            )

    def _told_by(self, file: File, columns: Mapping[str, str], found: list[str], taken: Collection[str]) -> Format:
        tried = {f: layout for f, layout in LAYOUTS.items() if layout.name in taken or not layout.told_where_taken}
        for format_, layout in tried.items():
            if not layout.missing(columns, found):
                return format_
        known = sorted({name for layout in tried.values() for name in (*layout.required, layout.turns_column)})
        unknown = [name for name in found if name not in known]
        likely = next((f"{like} by {name!r}" for name in unknown if (like := nearest(name, known))), "")
        accepted = "; ".join(f"{layout.name} ({', '.join(layout.missing({}, ()))})" for layout in tried.values())
        raise refused(
            f"{file.where}: no format is told by its columns {listed(found)}{likely}; accepted are {accepted}",
            f"rename the columns, or name them in {self.field}.columns",
        )

    def _without_objects(self, file: File, rows: list[tuple[int, Any]]) -> Refused:
        if not rows:
            return self._empty()
        number, row = rows[0]
        found = "an object without columns" if row == {} else kind(row)
        return refused(
            f"{file.where} row {number} is {found}; accepted are objects with columns", "write each row as an object"
        )

    def _empty(self) -> Refused:
        return refused(f"{self.where} has no rows", f"set {self.field}.path to a file with rows")


def _spelling(spec: training_pb2.DataSource) -> Spelling:
    """How the source's files write turns."""
    role, content = spec.columns.role or None, spec.columns.content or None
    if not spec.HasField("speakers"):
        return Spelling(role, content)
    return Spelling(role, content, {name: field.name for field, name in spec.speakers.ListFields()})
