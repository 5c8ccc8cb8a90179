"""Commands about the data of a spec: `data preview` and `data check`. They make no job."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.errors import InvalidSpec
from ftctl import output, session
from ftctl.commands import spec
from ftctl.commands.spec import File, Overrides
from ftctl.output import Format
from ftctl.show import data as show

if TYPE_CHECKING:
    from ftclient import Client
    from ftclient.previews import DataCheck
    from ftclient.specfile import SpecFile

app = typer.Typer(no_args_is_help=True, help="Look at the data of a spec before there is a job.")


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
