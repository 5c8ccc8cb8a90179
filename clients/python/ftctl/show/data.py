"""The data of a spec: rows with the trained tokens highlighted, and what a check of all rows found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.text import count

if TYPE_CHECKING:
    from rich.status import Status

    from ftclient.previews import DataCheck, PreviewedRow, PreviewedRun, PreviewedSequence
    from ftclient.results import DataReport, LengthBin, SplitReport

_TRAINED = "black on green"
_BAR = 40
# Of rows that were left out for the same reason.
_NUMBERS = 12


class Progress(AbstractContextManager["Progress"]):
    """One line on a terminal that says how far a check is, gone when it is over; nothing elsewhere."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if output.console().is_terminal:
            self._status = output.console().status("preparing")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def show(self, check: DataCheck) -> None:
        """Says what the preparation is busy with."""
        if self._status and check.phase:
            share = "" if check.fraction is None else f" {check.fraction:.0%}"
            self._status.update(f"{str(check.phase).replace('_', ' ')}{share}")


def rows(found: Sequence[PreviewedRow]) -> None:
    """Each row under a line that says where it stands."""
    for index, row in enumerate(found):
        if index:
            output.line()
        _heading(f"{row.source} {PurePath(row.path).name} row {row.row}")
        if row.dropped:
            output.line(f"left out: {row.dropped}")
        for sequence in row.sequences:
            _sequence(sequence)
        if row.remarks:
            output.line()
        for remark in row.remarks:
            output.line(f"note: {remark}")


def check(found: DataCheck) -> None:
    """Everything a check found."""
    report = found.report
    if report is None:
        return
    for name, split in (("Training", report.train), ("Evaluation", report.eval)):
        if split is not None:
            _split(name, split)
    _sources(report)
    _dropped(report)
    if report.remarks:
        output.section("Remarks")
        for remark in report.remarks:
            output.line(f"  {remark}")
    output.section("A job")
    output.fields(
        ("Steps", f"{found.total_steps:,}"),
        ("Tokens", f"{count(found.tokens)} over all epochs"),
        (
            "Prepared",
            f"{'before, by another job or check' if report.from_cache else 'now'}; a job need not wait for it",
        ),
    )


def _heading(text: str) -> None:
    if output.console().is_terminal:
        output.console().print(text, style="bold")
    else:
        output.line(text)


def _sequence(sequence: PreviewedSequence) -> None:
    trained = sum(run.tokens for run in sequence.runs if run.trained)
    total = sum(run.tokens for run in sequence.runs)
    name = f"{sequence.name}: " if sequence.name else ""
    cut = f", {sequence.cut_tokens} more are cut at data.max_length" if sequence.cut_tokens else ""
    output.line(f"{name}{total} tokens, {trained} trained on{cut}")
    output.line()
    _text(sequence.runs)


def _text(runs: Sequence[PreviewedRun]) -> None:
    """The text itself; a line end that is trained on is shown as one, since a highlight alone would not be seen."""
    from rich.text import Text

    plain = not output.console().is_terminal or output.console().no_color
    shown = Text()
    for run in runs:
        if not run.trained:
            shown.append(run.text)
            continue
        text = run.text.replace("\n", "↵\n")
        said = text.removesuffix("\n")
        shown.append(f"[[{said}]]" if plain else said, style=_TRAINED)
        shown.append(text[len(said) :])
    shown.rstrip()
    if plain:
        output.line(shown.plain)
    else:
        output.console().print(shown)


def _split(name: str, split: SplitReport) -> None:
    output.section(name)
    rows = max(1, sum(each.rows for each in split.lengths))
    share = split.trained_tokens / split.tokens if split.tokens else 0.0
    output.fields(
        ("Rows", f"{split.rows:,}" + (f", packed from {rows:,}" if rows > split.rows else "")),
        ("Tokens", f"{split.tokens:,}, {split.trained_tokens:,} ({share:.0%}) trained on"),
        ("Longest", f"{split.longest_row_tokens:,} tokens"),
        (
            "Truncated",
            f"{split.truncated_rows:,} ({split.truncated_rows / rows:.1%})" if split.truncated_rows else "none",
        ),
        (
            "Duplicates",
            f"{split.duplicate_rows:,} ({split.duplicate_rows / rows:.1%})" if split.duplicate_rows else "none",
        ),
    )
    _histogram(split.lengths)


def _histogram(lengths: Sequence[LengthBin]) -> None:
    most = max((each.rows for each in lengths), default=0)
    if not most:
        return
    low, cells = 0, []
    for each in lengths:
        bar = "█" * max(each.rows > 0, round(_BAR * each.rows / most))
        cells.append([f"{low + 1:,}–{each.up_to:,}", f"{each.rows:,}", bar])
        low = each.up_to
    output.line()
    output.table(["TOKENS", "ROWS", ""], cells, right=(0, 1))


def _sources(report: DataReport) -> None:
    output.section("Files")
    cells = [
        [
            PurePath(each.path).name,
            str(each.format),
            f"{each.rows_read:,}",
            f"{each.rows_used:,}",
            f"{each.rows_dropped:,}",
        ]
        for each in report.sources
    ]
    output.table(["FILE", "FORMAT", "READ", "USED", "LEFT OUT"], cells, right=(2, 3, 4))


def _dropped(report: DataReport) -> None:
    total = sum(each.rows_dropped for each in report.sources)
    if not total:
        return
    shown = len(report.dropped)
    output.section("Rows left out" + (f", the first {shown} of {total:,}" if shown < total else ""))
    rows: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in report.dropped:
        rows[PurePath(report.sources[row.source].path).name, row.reason].append(str(row.row))
    for (file, reason), numbers in rows.items():
        which = ", ".join(numbers[:_NUMBERS]) + (", …" if len(numbers) > _NUMBERS else "")
        output.line(f"  {reason}")
        output.line(f"    {len(numbers)} of {file}: row{'s' if len(numbers) > 1 else ''} {which}")
