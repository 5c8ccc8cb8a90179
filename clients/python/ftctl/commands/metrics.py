"""The command `metrics`: what a job measured, as charts, rows, CSV or events. Ctrl-C leaves the job alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.errors import FtError
from ftctl import output, session
from ftctl.commands.jobs import JobArgument
from ftctl.live.chart import Axis
from ftctl.output import Format
from ftctl.show import metrics as show

if TYPE_CHECKING:
    from ftclient import Event
    from ftctl.live.history import History

# Weight of the past in the smoothed curve, unless asked for.
SMOOTHING = 0.8
# Pictures a second of charts that go on.
FRAMES = 4

Names = Annotated[list[str] | None, typer.Option("-m", "--metric", help="Only these, e.g. -m loss,grad_norm.")]
Smooth = Annotated[
    float | None, typer.Option(min=0, max=0.999, help="Of charts: weight of the past, 0 not at all.  [default: 0.8]")
]
LogY = Annotated[bool, typer.Option("--log-y", help="Of charts: a logarithmic axis.")]
AxisOption = Annotated[Axis | None, typer.Option("--x", help="Of charts: from left to right.  [default: step]")]


def metrics(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", "--watch", help="Go on until the job's end.")] = False,
    metric: Names = None,
    smooth: Smooth = None,
    log_y: LogY = False,
    x: AxisOption = None,
    form: Annotated[Format | None, output.option(Format.CHART, Format.TABLE, Format.CSV, Format.JSONL)] = None,
) -> None:
    """Show a job's metrics: charts on a terminal, in a pipe a row an update; jsonl has every event."""
    asked = [name for given in metric or [] for name in given.split(",") if name]
    form = form or (Format.CHART if output.console().is_terminal else Format.TABLE)
    if form is not Format.CHART and (smooth is not None or log_y or x):
        raise typer.BadParameter(f"--smooth, --log-y and --x are for charts, and this is -o {form}; use -o chart")
    with session.connect() as client:
        name = session.last(client, job)
        with session.detachable(name):
            events = client.metrics(name, follow=follow)
            if form is Format.JSONL:
                _print_events(events)
            elif form is Format.CSV:
                columns = show.columns(asked, show.COLUMNS)
                output.csv(columns, ([row.get(c) for c in columns] for row in show.rows(events, asked)))
            elif form is Format.CHART:
                weight = SMOOTHING if smooth is None else smooth
                _draw(events, show.Charts(asked, x or Axis.STEP, log_y, bool(weight)), weight, follow=follow)
            elif follow:
                show.lines(show.rows(events, asked), asked)
            else:
                show.table(list(show.rows(events, asked)), asked)


def _print_events(events: Iterator[Event]) -> None:
    import json

    for event in events:
        output.line(json.dumps({"seq": event.seq, **output.as_dict(event.proto)}, ensure_ascii=False))
        output.flush()


def _draw(events: Iterator[Event], charts: show.Charts, weight: float, *, follow: bool) -> None:
    from ftctl.live.history import History

    history = History(weight)
    if follow and output.console().is_terminal:
        _draw_live(events, charts, history)
        return
    for event in events:
        history.take(event)
    unknown = [name for name in charts.asked if name not in history.raw]
    if history.raw and unknown:
        raise FtError(f"there is no metric {unknown[0]!r}", advice=f"the job has {', '.join(history.raw)}")
    console = output.console()
    console.print(charts.draw(history, console.width, console.height))


def _draw_live(events: Iterator[Event], charts: show.Charts, history: History) -> None:
    """Drawn again by a thread of its own: a job that says nothing for a while may be looked at in a new size."""
    from rich.console import RenderableType
    from rich.live import Live

    console, lock = output.console(), threading.Lock()

    def picture() -> RenderableType:
        with lock:
            return charts.draw(history, console.width, console.height)

    with Live(console=console, get_renderable=picture, refresh_per_second=FRAMES, vertical_overflow="crop"):
        for event in events:
            with lock:
                history.take(event)
