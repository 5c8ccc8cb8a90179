"""Commands about data: of a spec, before there is a job, and of data sets that are sent to the daemon's host."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.errors import InvalidSpec
from ftctl import output, session
from ftctl.commands import spec
from ftctl.commands.spec import File, Overrides
from ftctl.output import Format
from ftctl.show import data as show
from ftctl.show import files as show_files

if TYPE_CHECKING:
    from ftclient import Client
    from ftclient.previews import DataCheck
    from ftclient.specfile import SpecFile

app = typer.Typer(no_args_is_help=True, help="Look at the data of a spec, and keep data sets on the daemon's host.")


@app.command()
def preview(
    file: File,
    overrides: Overrides = None,
    row: Annotated[
        int | None, typer.Option("--row", metavar="N", min=1, help="Row number in the file, from 1.")
    ] = None,
    rows: Annotated[int, typer.Option("-n", "--rows", metavar="N", min=1, max=20, help="How many rows.")] = 1,
    source: Annotated[str, typer.Option(metavar="FIELD", help="Which source of the spec.")] = "data.train[0]",
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Show rows as they would be trained on, the trained tokens highlighted; without colours [[marked]].

    Without --row the first rows that can be used. Exit code: 6 if the data cannot be used.
    """
    found = spec.read(file, overrides)
    with session.connect() as client:
        _need_whole(client, found)
        try:
            shown = client.preview_data(found.spec, source=source, row=row or 0, rows=rows)
        except InvalidSpec as error:
            spec.give_up(found, error.violations)
    if form is Format.TABLE:
        show.rows(shown)
    else:
        output.many([each.proto for each in shown], form)


@app.command()
def check(
    file: File,
    overrides: Overrides = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Prepare the data and tell what is in it: rows, lengths, duplicates, what is left out and why.

    A job with the same data need not prepare it again. Exit code: 6 if the data cannot be used.
    """
    found = spec.read(file, overrides)
    with session.connect() as client:
        _need_whole(client, found)
        try:
            last = _follow(client, found)
        except InvalidSpec as error:
            spec.give_up(found, error.violations)
    if form is Format.TABLE:
        show.check(last)
    else:
        output.one(last.proto, form)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of rows.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the data set; by default made of the file's name.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the name only.")] = False,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML, Format.NAME)] = Format.TABLE,
) -> None:
    """Send a file of rows to the daemon's host, where specs name it: data: {train: [{dataset: NAME}]}.

    Run again after a cut it goes on where it was; what is there already is not sent.
    """
    with session.connect() as client, session.resumable(), show_files.bar("uploading") as progress:
        sent = client.upload(file, name=name, progress=progress)
    if quiet or form is Format.NAME:
        output.line(sent.name)
    elif form is Format.TABLE:
        show_files.datasets([sent])
    else:
        output.one(sent.proto, form)


@app.command("list")
def list_(
    form: Annotated[
        Format, output.option(Format.TABLE, Format.JSON, Format.JSONL, Format.YAML, Format.NAME)
    ] = Format.TABLE,
) -> None:
    """List the data sets on the daemon's host."""
    with session.connect() as client:
        found = list(client.datasets())
    match form:
        case Format.TABLE:
            show_files.datasets(found)
        case Format.NAME:
            for each in found:
                output.line(each.name)
        case _:
            output.many([each.proto for each in found], form)


@app.command()
def delete(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of data sets.")]) -> None:
    """Remove data sets from the daemon's host. Exit code: 6 while a job that has not ended uses one."""
    with session.connect() as client:
        for name in names:
            client.delete_dataset(name)
            session.note(f"deleted {name}")


def _follow(client: Client, found: SpecFile) -> DataCheck:
    """The last word of a check, its progress shown on a terminal until then."""
    with closing(client.check_data(found.spec)) as checks, show.Progress() as progress:
        for check in checks:
            if check.report is not None:
                return check
            progress.show(check)
    raise AssertionError("a stream ends with the report or raises")


def _need_whole(client: Client, found: SpecFile) -> None:
    """Exits with all problems unless the file could be read whole."""
    if found.problems:
        spec.give_up(found, spec.ask(client, found))
