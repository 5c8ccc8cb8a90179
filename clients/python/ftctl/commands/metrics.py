"""The command `metrics`: what a job measured, as a table, as CSV or as its events. Ctrl-C leaves the job alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftctl import output, session, text
from ftctl.commands.jobs import JobArgument
from ftctl.output import Format

if TYPE_CHECKING:
    from ftclient import Event

Names = Annotated[list[str] | None, typer.Option("-m", "--metric", help="Only these, e.g. -m loss,grad_norm.")]
Row = dict[str, Any]

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "step_seconds",
    "peak_memory_bytes",
)


def metrics(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", "--watch", help="Go on until the job's end.")] = False,
    metric: Names = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.CSV, Format.JSONL)] = Format.TABLE,
) -> None:
    """Print a job's metrics, a row an update; jsonl has every event."""
    asked = [name for given in metric or [] for name in given.split(",") if name]
    with session.connect() as client:
        name = session.last(client, job)
        with session.detachable(name):
            events = client.metrics(name, follow=follow)
            if form is Format.JSONL:
                _print_events(events)
            elif form is Format.CSV:
                columns = ["step", *(m for m in asked if m != "step")] if asked else list(COLUMNS)
                output.csv(columns, ([row.get(c) for c in columns] for row in _rows(events, asked)))
            elif follow:
                _print_rows(_rows(events, asked), asked)
            else:
                _print_table(list(_rows(events, asked)), asked)


def _rows(events: Iterator[Event], asked: list[str]) -> Iterator[Row]:
    """Updates and evaluations as rows; with `asked` only those that have one of them."""
    from ftclient import EvaluationMetrics, StepMetrics

    for event in events:
        match event.kind:
            case StepMetrics() as step:
                row = {name: getattr(step, name) for name in COLUMNS if name != "eval_loss"}
            case EvaluationMetrics() as evaluation:
                row = {"step": evaluation.step, "epoch": evaluation.epoch, "eval_loss": evaluation.loss}
            case _:
                continue
        row |= event.kind.extra
        if not asked or any(row.get(name) is not None for name in asked):
            yield row


def _print_events(events: Iterator[Event]) -> None:
    import json

    for event in events:
        output.line(json.dumps({"seq": event.seq, **output.as_dict(event.proto)}, ensure_ascii=False))
        output.flush()


def _print_table(rows: list[Row], asked: list[str]) -> None:
    """All rows at once, in the columns that have something in them."""
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    columns = ["step", *(m for m in asked if m != "step")] if asked else [*COLUMNS, *extra]
    columns = [c for c in columns if asked or any(row.get(c) is not None for row in rows)] or ["step"]
    cells = [[_cell(c, row.get(c)) for c in columns] for row in rows]
    output.table([c.upper() for c in columns], cells, right=range(len(columns)))


def _print_rows(rows: Iterator[Row], asked: list[str]) -> None:
    """Row by row while they come: columns of a fixed width."""
    columns = ["step", *(m for m in asked if m != "step")] if asked else list(COLUMNS[:8])
    output.line("  ".join(c.upper().rjust(max(9, len(c))) for c in columns))
    for row in rows:
        output.line("  ".join(_cell(c, row.get(c)).rjust(max(9, len(c))) for c in columns))
        output.flush()


def _cell(column: str, value: Any) -> str:
    if value is None:
        return text.NOTHING
    if column.endswith("_bytes"):
        return text.size(value)
    return str(value) if isinstance(value, int) else text.number(value)
