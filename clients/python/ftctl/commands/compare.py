"""The command `compare`: jobs beside each other, their specs, metrics and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.errors import FtError
from ftctl import output, session
from ftctl.commands.jobs import JobsArgument
from ftctl.commands.metrics import SMOOTHING, AxisOption, LogY, Smooth
from ftctl.live.chart import Axis
from ftctl.output import Format
from ftctl.show import compare as show

if TYPE_CHECKING:
    from ftclient import Client


def compare(
    jobs: JobsArgument,
    chart: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Draw this one.  [default: loss on a terminal, in a pipe none]")
    ] = None,
    only_changed: Annotated[bool, typer.Option("--only-changed", help="Of the specs only what differs.")] = False,
    smooth: Smooth = None,
    log_y: LogY = False,
    x: AxisOption = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Compare two or more jobs: metrics, specs as run, and a chart with all curves."""
    if not 2 <= len(jobs) <= len(show.LETTERS):
        raise typer.BadParameter(f"{len(jobs)} given; expected 2 to {len(show.LETTERS)} jobs")
    weight = SMOOTHING if smooth is None else smooth
    with session.connect() as client:
        found = [_read(client, letter, name, weight) for letter, name in zip(show.LETTERS, jobs, strict=False)]
    if form is not Format.TABLE:
        (output.yaml if form is Format.YAML else output.document)(show.as_dict(found))
        return
    wanted = output.console().is_terminal or log_y or x is not None or smooth is not None
    drawn = chart or ("loss" if wanted else "")
    known = sorted({name for each in found for name in each.measured})
    if chart and chart not in known:
        raise FtError(f"no job has a metric {chart!r}", advice=f"there are {', '.join(known) or 'none yet'}")
    show.tables(found, only_changed=only_changed)
    if drawn:
        show.chart(found, drawn, x or Axis.STEP, log_y=log_y)


def _read(client: Client, letter: str, name: str, weight: float) -> show.Compared:
    from ftctl.live.history import History

    job, history = client.get(session.last(client, name)), History(weight)
    for event in client.metrics(job, follow=False):
        history.take(event)
    return show.Compared(letter, job, history)
