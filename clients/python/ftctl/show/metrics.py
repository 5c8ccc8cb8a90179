"""Metrics of a job: as rows under each other, and as charts with a line for each metric that has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftctl import output, text
from ftctl.live.chart import Axis, Curve, sparkline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from ftclient import Event
    from ftctl.live.history import History

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
# Columns that have room while rows come one by one.
FIRST = COLUMNS[:8]
SPARKS = 24
Row = dict[str, Any]


def rows(events: Iterable[Event], asked: Sequence[str]) -> Iterator[Row]:
    """Updates and evaluations as rows; with `asked` only those that have one of them."""
    from ftclient.history import figures

    for event in events:
        found = figures(event)
        row: Row = {"step": getattr(event.kind, "step", None), **found}
        if found and (not asked or any(row.get(name) is not None for name in asked)):
            yield row


def columns(asked: Sequence[str], default: Sequence[str]) -> list[str]:
    """The step, and what is asked for or the default."""
    return ["step", *(name for name in asked or default if name != "step")]


def table(found: Sequence[Row], asked: Sequence[str]) -> None:
    """All rows at once, in the columns that have something in them."""
    extra = sorted({name for row in found for name in row} - set(COLUMNS))
    shown = columns(asked, (*COLUMNS, *extra))
    shown = [c for c in shown if asked or any(row.get(c) is not None for row in found)] or ["step"]
    cells = [[cell(c, row.get(c)) for c in shown] for row in found]
    output.table([c.upper() for c in shown], cells, right=range(len(shown)))


def lines(found: Iterable[Row], asked: Sequence[str]) -> None:
    """Row by row while they come: columns of a fixed width."""
    shown = columns(asked, FIRST)
    output.line("  ".join(c.upper().rjust(max(9, len(c))) for c in shown))
    for row in found:
        output.line("  ".join(cell(c, row.get(c)).rjust(max(9, len(c))) for c in shown))
        output.flush()


def cell(name: str, value: float | None) -> str:
    """A value as the metric of this name is read."""
    if value is None:
        return text.NOTHING
    if name.endswith("_bytes"):
        return text.size(value)
    return str(value) if isinstance(value, int) else text.number(value)


@dataclass(frozen=True, slots=True)
class Charts:
    """How a history is drawn: a chart for each of the `asked`, or one of the loss and a line for each other metric."""

    asked: Sequence[str]
    axis: Axis
    log_y: bool
    smooth: bool

    def draw(self, history: History, width: int, height: int) -> RenderableType:
        """All charts, in about `height` lines."""
        from rich.console import Group

        # An evaluation is drawn into the chart of what it evaluates.
        names = [n for n in self.asked or ("loss",) if n.removeprefix("eval_") == n or n[5:] not in self.asked]
        others = [] if self.asked else sorted(set(history.raw) - {"loss", "eval_loss"}, key=place_of)
        rows = max(5, (height - 3 - (len(others) + 2 if others else 0)) // len(names) - 3)
        drawn = [part for name in names for part in self._chart(history, name, width, rows)]
        return Group(*drawn, *([_others(history, others, width)] if others else []))

    def _chart(self, history: History, name: str, width: int, rows: int) -> list[RenderableType]:
        from rich.text import Text

        from ftctl.live.plot import Plot
        from ftctl.live.screen import EVAL, RAW, SMOOTH

        raw = history.points(name, self.axis)
        smooth = history.points(name, self.axis, smooth=True) if self.smooth else []
        evals = history.points(f"eval_{name}", self.axis)
        curves = [Curve(raw, RAW if smooth else SMOOTH), Curve(smooth, SMOOTH), Curve(evals, EVAL, dots=True)]
        title = Text(name, style="bold")
        for style, label, points in ((SMOOTH, "", smooth or raw), (EVAL, "  eval", evals)):
            if points:
                title.append(label, style="bold").append(f" {cell(name, points[-1][1])}", style=style)
        marks = [(getattr(place, self.axis), f"attempt {attempt}") for attempt, place in history.restarts]
        plot = Plot(curves, self.axis, self.log_y, marks, lambda value: cell(name, float(value)))
        return [title, plot.draw(width, rows), Text()]


def place_of(name: str) -> tuple[int, str]:
    """The order of metrics: as columns are ordered, then by name."""
    return (COLUMNS.index(name) if name in COLUMNS else len(COLUMNS), name)


def _others(history: History, names: Sequence[str], width: int) -> Text:
    """A line for each metric: its course, its last value, its range."""
    from rich.text import Text

    shown = Text()
    room = max(map(len, names))
    for name in names:
        values = [sample.value for sample in history.raw[name]]
        ends = f"{cell(name, values[-1]):>10}  {cell(name, min(values))} … {cell(name, max(values))}"
        course = sparkline(values, max(8, min(SPARKS, width - room - 40)))
        line = Text.assemble((f"{name:<{room}}  ", "dim"), (f"{course:<{SPARKS}}", "cyan"), f" {ends}", no_wrap=True)
        line.truncate(width, overflow="ellipsis")
        shown.append_text(line).append("\n")
    shown.rstrip()
    return shown
