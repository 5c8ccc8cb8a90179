"""Commands that follow a job: watch, logs, metrics, wait. Ctrl-C leaves the job alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient import units
from ftclient.errors import FtError, JobCancelled, JobFailed, NotFound, WaitTimeout
from ftctl import exits, output, session, text
from ftctl.commands.jobs import JobArgument, JobsArgument
from ftctl.output import Format

if TYPE_CHECKING:
    from ftclient import Client, Event, Job

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


def watch(
    job: JobArgument,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit code as of `ftctl wait`: 100 failed, 103 cancelled.")
    ] = False,
) -> None:
    """Watch a job live; in a pipe, line by line."""
    from ftctl.live.view import follow

    with session.connect() as client:
        found = _find(client, job) if exit_status else client.get(session.last(client, job))
        with session.detachable(found.id):
            ended = follow(client, found)
    if exit_status and ended.state == "failed":
        raise typer.Exit(exits.JOB_FAILED)
    if exit_status and ended.state == "cancelled":
        raise typer.Exit(exits.JOB_CANCELLED)


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is printed, until the end.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Only the last so many lines of what is there; 0: all.")] = 0,
    attempt: Annotated[int | None, typer.Option(min=0, help="Only of this attempt; 0 is the preparation.")] = None,
    rank: Annotated[int | None, typer.Option(help="Only of this process; -1 is the keeper.")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
) -> None:
    """Print what a job's processes printed."""
    with session.connect() as client:
        name = session.last(client, job)
        with session.detachable(name):
            for found in client.logs(name, tail=tail, follow=follow):
                if attempt not in (None, found.attempt) or rank not in (None, found.rank):
                    continue
                output.line(f"{text.clock(found.time)}  {found.text}" if timestamps else found.text)
                if follow:
                    output.flush()


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


def wait(
    jobs: JobsArgument,
    condition: Annotated[
        str, typer.Option("--for", metavar="CONDITION", help="terminal, state=running or step=500.")
    ] = "terminal",
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="e.g. 90s, 2h; then exit with 101.")] = None,
) -> None:
    """Wait for jobs.

    Exit code: 0 reached, 100 failed, 101 not finished at the timeout, 102 no such job, 103 cancelled.
    """
    until = _condition(condition)
    try:
        seconds = None if timeout is None else units.seconds(timeout)
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from error
    deadline = None if seconds is None else time.monotonic() + seconds
    code = exits.OK
    with session.connect() as client:
        for name in jobs:
            found = _find(client, name)
            try:
                with session.detachable(found.id):
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    ended = client.wait(found, until=until, timeout=left)
            except WaitTimeout as error:
                # Of what was asked for, only the rest was left for this job.
                raise WaitTimeout(found.id, seconds or 0.0) from error
            except (JobFailed, JobCancelled) as error:
                session.report(error)
                code = code or exits.code_of(error)
            else:
                output.line(f"{ended.id}  {ended.name}  {ended.state}")
                if until is not None and not until(ended):
                    raise FtError(f"job {ended.id} has {ended.state} without {condition}")
    raise typer.Exit(code)


def _find(client: Client, name: str) -> Job:
    """The job; when there is none the exit code is that of the commands that wait."""
    try:
        return client.get(session.last(client, name))
    except NotFound as error:
        session.report(error)
        raise typer.Exit(exits.JOB_NOT_FOUND) from error


def _condition(text: str) -> Callable[[Job], bool] | None:
    kind, _, value = text.partition("=")
    if text == "terminal":
        return None
    if kind == "step" and value.isdigit():
        return lambda job: bool(job.progress and job.progress.step >= int(value))
    if kind == "state":
        from ftclient import JobState

        wanted = JobState(value.lower()) if value.lower() in set(JobState) else None
        if wanted is not None:
            # A state that a fast job has left again counts: the history has it.
            return lambda job: job.state is wanted or any(move.to_state is wanted for move in job.transitions)
    raise typer.BadParameter(f"--for {text}: expected terminal, state=STATE or step=NUMBER")


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
