"""How a View is drawn, for any terminal from 40 columns and 15 lines on. Pure: a view and a size to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ftctl import facts, text
from ftctl.live.chart import Curve, sparkline
from ftctl.live.model import View
from ftctl.live.plot import Plot
from ftctl.output import STATE_STYLES

RAW, SMOOTH, EVAL = "cyan dim", "bright_cyan", "bright_yellow"
LABEL = "dim"
# Columns from which on there is room for what is good to know.
WIDE = 80
# States in which why is worth more than what was going on before.
WAITING = ("queued", "paused")
# How long a notice is shown.
NOTICED = timedelta(seconds=30)


class Size(NamedTuple):
    """A terminal, in characters."""

    width: int
    height: int


def live(view: View, size: Size, now: datetime, *, hint: bool = True) -> RenderableType:
    """The whole screen while the job goes on; with `hint` its last line says how to leave and how to cancel."""
    width, height = size
    log_rows = max(1, min(8, (height - 11) // 3, len(view.lines)))
    chart_rows = max(3, height - 11 - log_rows)
    return Group(
        _heading(view, width),
        Text(),
        _progress(view, width),
        Text(),
        _facts(view, width, now),
        _chart(view, width, chart_rows),
        _log(view, width, log_rows),
        _footer(view, width, now, hint=hint),
    )


def summary(view: View, width: int) -> RenderableType:
    """What stays on the terminal when the job has ended."""
    job = view.job
    mark = {"succeeded": "✓", "failed": "✗"}.get(job.state, "■")
    took = (job.end_time - (job.start_time or job.create_time)).total_seconds() if job.end_time else None
    head = Text(f"{mark} ", style=f"bold {STATE_STYLES.get(job.state, '')}")
    head.append(job.name, style="bold").append(f"  {job.id}  ", style=LABEL)
    head.append(job.state, style=f"bold {STATE_STYLES.get(job.state, '')}").append(f" after {text.duration(took)}")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=LABEL, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _summary_rows(view, width):
        grid.add_row(f"  {name}", value)
    return Group(head, Text(), grid)


def _summary_rows(view: View, width: int) -> Sequence[tuple[str, RenderableType]]:
    job, rows = view.job, list[tuple[str, RenderableType]]()
    if job.failure:
        rows.append(("failure", Text(f"{job.failure.failure_class}: {job.failure.message}", style="red")))
        rows.append(("advice", Text(job.failure.advice)))
        rows.extend(("log" if not index else "", Text(line, style="dim")) for index, line in enumerate(_tail(view, 6)))
    if losses := view.losses:
        curve = Text(sparkline([loss for _, loss in losses], min(32, width - 50)), style=SMOOTH)
        ends = f"{text.number(losses[0][1])} → {text.number(losses[-1][1])}  "
        rows.append(("loss", Text(ends).append(curve)))
    if evals := view.evals:
        rows.append(("eval loss", Text(text.number(min(loss for _, loss in evals)), style=EVAL)))
    if view.step:
        parts = [
            f"{view.done} steps",
            f"{text.number(view.step.epoch)} epochs",
            f"{text.count(view.step.tokens)} tokens",
        ]
        rows.append(("trained", Text(" · ".join([*parts, f"{text.count(view.step.tokens_per_second)} tokens/s"]))))
    if view.peak_bytes and job.estimate:
        memory = f"{text.size(view.peak_bytes)} at the peak, {text.size(job.estimate.reserve_bytes)} reserved"
        rows.append(("memory", Text(memory)))
    if job.output_path:
        rows.append(("output", Text(job.output_path, style="bold")))
    elif view.checkpoint:
        rows.append(("checkpoint", Text(view.checkpoint)))
    return rows


def _heading(view: View, width: int) -> RenderableType:
    job = view.job
    state = Text(f"● {job.state}", style=f"bold {STATE_STYLES.get(job.state, '')}")
    if view.phase and not job.state.finished and job.state not in WAITING:
        state.append(f"  {view.phase.replace('_', ' ')}", style="default")
    if view.attempt > 1:
        state.append(f"  attempt {view.attempt}", style="yellow")
    name = Text(f" {job.name}", style="bold").append(f"  {job.id}", style=LABEL)
    return _sides(name, state, width)


def _progress(view: View, width: int) -> RenderableType:
    """A bar and how far it is; it moves to and fro while that is not known."""
    total, done = view.total_steps, view.done
    if total:
        label = f"{done / total:4.0%}  step {done}/{total}"
    elif view.fraction is not None:
        total, done, label = 1000, round(1000 * view.fraction), f"{view.fraction:4.0%}  {view.phase.replace('_', ' ')}"
    else:
        reason = view.job.reason
        label = view.phase.replace("_", " ") or (reason.message if reason else view.job.state)
    label = label[: width // 2]
    bar = ProgressBar(
        total=total or None,
        completed=done,
        width=max(10, width - len(label) - 4),
        pulse=not total and not view.job.state.finished,
        complete_style="bright_cyan",
        finished_style="green",
        pulse_style="cyan",
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_row("", bar, Text(label, no_wrap=True))
    return grid


def _facts(view: View, width: int, now: datetime) -> RenderableType:
    """Two rows of numbers under each other."""
    step, job = view.step, view.job
    pairs = [
        ("eta", text.duration(view.eta_seconds) if not job.state.finished else text.NOTHING),
        ("epoch", text.number(step.epoch) if step else text.NOTHING),
        ("lr", text.number(step.learning_rate) if step else text.NOTHING),
        ("grad", text.number(step.grad_norm) if step else text.NOTHING),
        ("tokens/s", text.count(step.tokens_per_second) if step else text.NOTHING),
        ("step", f"{step.step_seconds:.2f} s" if step else text.NOTHING),
    ]
    grid = Table.grid()
    # As many as have room, the first matter most.
    fit = max(1, min(len(pairs), (width - 2) // 14))
    cells = [Text.assemble((f"{name} ", LABEL), (value, "bold")) for name, value in pairs[:fit]]
    for _ in cells:
        grid.add_column(width=(width - 2) // fit, no_wrap=True)
    grid.add_row(*cells)
    second = Text(no_wrap=True, overflow="ellipsis")
    second.append(" elapsed ", style=LABEL).append(text.age(job.start_time, now), style="bold").append("   ")
    return Group(_indented(grid), second.append_text(_memory(view, width)))


def _memory(view: View, width: int) -> Text:
    """Peak memory against what was reserved for it, and at last what was estimated."""
    estimate, measured = view.job.estimate, text.size(view.peak_bytes) if view.peak_bytes else text.NOTHING
    if not (estimate and estimate.reserve_bytes):
        return Text.assemble(("memory ", LABEL), (measured, "bold"))
    reserved = estimate.reserve_bytes
    words = f" of {text.size(reserved)} reserved"
    # What a process on a CPU takes cannot be compared with an estimate of tensors.
    if estimate.peak_bytes and width >= WIDE and not facts.on_cpu(view.job):
        words += f", {text.size(estimate.peak_bytes)} estimated"
    share = min(1.0, view.peak_bytes / reserved)
    cells = max(6, min(24, width - 36 - len(words)))
    full = round(share * cells)
    style = "green" if share < 0.8 else "yellow" if share < 1 else "red"
    bar = (("━" * full, style), ("━" * (cells - full), LABEL))
    return Text.assemble(("memory ", LABEL), *bar, (f" {measured}", "bold"), (words, LABEL))


def _chart(view: View, width: int, rows: int) -> RenderableType:
    """The loss over the steps: each update, smoothed, and the evaluations."""
    title = Text("loss", style="bold")
    losses, evals, smooth = view.losses, view.evals, view.history.points("loss", smooth=True)
    if smooth:
        title.append(f" {text.number(smooth[-1][1])}", style=SMOOTH)
    if evals:
        title.append("  eval", style="bold").append(f" {text.number(evals[-1][1])}", style=EVAL)
    if "loss" in view.history.broken:
        title.append("  not a number", style="bold red")
    inner = rows - 1
    if not losses:
        waits = view.job.reason.message if view.job.reason and view.job.state == "queued" else "no update yet"
        body: RenderableType = Group(*[Text()] * (inner // 2), Text(waits, style=LABEL, justify="center"))
    else:
        curves = [Curve(losses, RAW), Curve(smooth, SMOOTH), Curve(evals, EVAL, dots=True)]
        marks = [(place.step, f"attempt {attempt}") for attempt, place in view.history.restarts]
        body = Plot(curves, marks=marks).draw(width - 4, inner)
    saved = Text(f"saved {view.checkpoint}") if view.checkpoint else None
    return _panel(body, title, width, rows, saved)


def _log(view: View, width: int, rows: int) -> RenderableType:
    body = Text("\n".join(_tail(view, rows)), style="dim", no_wrap=True, overflow="ellipsis")
    return _panel(body, Text("log", style="bold"), width, rows)


def _panel(body: RenderableType, title: Text, width: int, rows: int, below: Text | None = None) -> Panel:
    return Panel(
        body,
        title=title,
        title_align="left",
        subtitle=below,
        subtitle_align="right",
        box=ROUNDED,
        border_style=LABEL,
        width=width,
        height=rows + 2,
    )


def _tail(view: View, rows: int) -> list[str]:
    # A progress bar that a library prints ends in a carriage return; what stands after the last one is what shows.
    return [line.rstrip("\r").rpartition("\r")[2].expandtabs(4) for line in list(view.lines)[-rows:]]


def _footer(view: View, width: int, now: datetime, *, hint: bool) -> RenderableType:
    """Why it does not run, else what was just told, else how to leave."""
    job = view.job
    told = job.reason.message if job.reason and job.state in WAITING else ""
    if not told and view.notice_time and now - view.notice_time < NOTICED:
        told = view.notice
    if told:
        return Text(f" {told}", style="yellow", no_wrap=True, overflow="ellipsis")
    left = Text(" Ctrl-C leaves the job running" if hint else "", style=LABEL)
    return _sides(left, Text(f"ftctl cancel {job.id}" if hint and width > 60 else "", style=LABEL), width)


def _sides(left: Text, right: Text, width: int) -> Text:
    left.truncate(max(1, width - right.cell_len - 2), overflow="ellipsis")
    space = max(1, width - left.cell_len - right.cell_len - 1)
    return Text.assemble(left, " " * space, right, no_wrap=True)


def _indented(what: RenderableType) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row("", what)
    return grid
