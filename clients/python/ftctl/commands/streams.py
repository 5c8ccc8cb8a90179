"""Commands that follow a job: watch, logs, wait. Ctrl-C leaves the job alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient import units
from ftclient.errors import FtError, JobCancelled, JobFailed, NotFound, WaitTimeout
from ftctl import exits, output, session, text
from ftctl.commands.jobs import JobArgument, JobsArgument

if TYPE_CHECKING:
    from ftclient import Client, Job, LogLine


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
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="Only what is no older, e.g. 10m.")] = None,
    grep: Annotated[str | None, typer.Option(metavar="PATTERN", help="Only lines that this is found in.")] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
) -> None:
    """Print what a job's processes printed.

    --tail counts all lines, then the others choose among them. PATTERN is a regular expression.
    """
    wanted = _chosen(attempt, rank, since, grep)
    with session.connect() as client:
        name = session.last(client, job)
        with session.detachable(name):
            for found in filter(wanted, client.logs(name, tail=tail, follow=follow)):
                output.line(f"{text.clock(found.time)}  {found.text}" if timestamps else found.text)
                if follow:
                    output.flush()


def _chosen(attempt: int | None, rank: int | None, since: str | None, grep: str | None) -> Callable[[LogLine], bool]:
    """Whether a line is wanted, by all that is not None."""
    try:
        oldest = None if since is None else datetime.now(UTC) - timedelta(seconds=units.seconds(since))
        pattern = re.compile(grep or "")
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--since: {error}") from error
    except re.error as error:
        raise typer.BadParameter(f"--grep {grep}: {error}; expected a regular expression") from error

    def wanted(line: LogLine) -> bool:
        return (
            attempt in (None, line.attempt)
            and rank in (None, line.rank)
            and (oldest is None or line.time >= oldest)
            and bool(pattern.search(line.text))
        )

    return wanted


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
