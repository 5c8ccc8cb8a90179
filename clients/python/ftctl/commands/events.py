"""Commands of whoever looks after many jobs: what has become of all of them, and the labels they are found by."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ftctl import output, session
from ftctl.commands.jobs import JobArgument, Project, Quiet, Selector, States, read_states
from ftctl.output import Format
from ftctl.show import changes as show


def events(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what happens from now on.")] = False,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Only what came after it, e.g. what was missed.")] = "",
    selector: Selector = None,
    state: States = None,
    project: Project = "",
    form: Annotated[Format, output.option(Format.TABLE, Format.JSONL)] = Format.TABLE,
) -> None:
    """Show what has become of all jobs, in order: every change of state, as far back as the daemon keeps them.

    Each line of -o jsonl has a cursor: with --after it tells what came after that one.
    """
    last = after
    with session.connect() as client:
        told = client.watch_jobs(
            cursor=after,
            selector=",".join(selector or []),
            states=read_states(state),
            project=project,
            follow=follow,
        )
        try:
            for change in told:
                last = change.cursor
                if form is Format.JSONL:
                    output.one(change.proto, form)
                else:
                    output.line(show.change(change))
                output.flush()
        finally:
            # However it ended: Ctrl-C is the usual end of --follow.
            if last and form is Format.TABLE:
                session.note_field("next:", f"ftctl events --after {last}")


def label(
    job: JobArgument,
    edits: Annotated[list[str], typer.Argument(metavar="KEY=VALUE | KEY-", help="Sets a label, or removes one.")],
    quiet: Quiet = False,
) -> None:
    """Set and remove labels of a job; the others stay. Its spec stays as it was submitted."""
    changes = dict(map(_edit, edits))
    with session.connect() as client:
        changed = client.edit(session.last(client, job), labels=changes)
    labels = ",".join(f"{key}={value}" for key, value in sorted(changed.labels.items()))
    output.line(changed.id if quiet else f"{changed.id}  {changed.name}  {labels or 'no labels'}")


def _edit(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if equals and key:
        return key, value
    if not equals and re.fullmatch(r".+-", text):
        return text[:-1], None
    raise typer.BadParameter(f"{text}: expected KEY=VALUE to set a label, or KEY- to remove it")
