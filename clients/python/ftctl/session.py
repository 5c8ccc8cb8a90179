"""What one run of `ftctl` shares: which daemon it is about, whether to show traces, how errors and Ctrl-C are told."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ftclient.errors import ApiError, FtError, JobFailed
from ftctl import exits

if TYPE_CHECKING:
    from ftclient import Client


@dataclass(slots=True)
class Settings:
    """The global options."""

    address: str | None = None
    context: str | None = None
    debug: bool = False


settings = Settings()


def connect() -> Client:
    """A client of the daemon; grpc is imported here, when a command needs it."""
    from ftclient import Client

    return Client(settings.address, context=settings.context)


def note(message: str = "", **style: bool) -> None:
    """One line to standard error."""
    typer.secho(message, err=True, **style)  # type: ignore[arg-type]


def note_field(label: str, message: str) -> None:
    """A labelled line to standard error, the label aligned with `error:`."""
    if message:
        typer.echo(typer.style(f"{label:>6}", bold=True) + f" {message}", err=True)


def report(error: FtError) -> None:
    """An error in three lines: what, why, next."""
    if isinstance(error, JobFailed):
        for line in error.log_tail:
            note(f"  {line}", dim=True)
    typer.echo(typer.style("error:", fg="red", bold=True) + f" {error}", err=True)
    note_field("why:", error.why)
    note_field("next:", error.advice)
    if settings.debug:
        if isinstance(error, ApiError) and error.request_id:
            note_field("id:", f"request_id {error.request_id}")
        traceback.print_exception(error, file=sys.stderr)


@contextmanager
def detachable(job: str) -> Iterator[None]:
    """Ctrl-C inside leaves the job alone and says how to come back to it."""
    try:
        yield
    except KeyboardInterrupt:
        note()
        note("detached; the job goes on")
        note(f"re-attach: ftctl watch {job}")
        note(f"cancel:    ftctl cancel {job}")
        raise typer.Exit(exits.INTERRUPTED) from None


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C inside says how to go on with what was moved."""
    try:
        yield
    except KeyboardInterrupt:
        note()
        note("cut; what has come is kept, and the same command goes on from there")
        raise typer.Exit(exits.INTERRUPTED) from None


def last(client: Client, job: str) -> str:
    """The id, prefix or name to ask the daemon for: `@last` is the newest job."""
    if job != "@last":
        return job
    newest = next(client.list(page_size=1), None)
    if newest is None:
        raise FtError("there is no job yet, so no @last", advice="submit one: ftctl submit -f job.yaml")
    return newest.id
