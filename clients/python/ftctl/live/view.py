"""Follows one job: the live view on a terminal, plain lines in a pipe, and in both the same last words."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from ftclient import Client, Job
from ftclient.events import (
    CheckpointSaved,
    EvaluationMetrics,
    Event,
    GeneratedAnswers,
    Notice,
    PhaseChanged,
    StepMetrics,
)
from ftctl import output, text
from ftctl.live import screen
from ftctl.live.feed import Feed
from ftctl.live.model import Update, View

# Pictures a second, and seconds between two plain lines about the progress.
FRAMES = 8
PLAIN_SECONDS = 5.0
WIDE = 10_000


def follow(client: Client, job: Job) -> Job:
    """Shows the job until it has ended; returns it as it is then."""
    console = output.console()
    view, feed = View(job), Feed(client, job)
    if console.is_terminal:
        _draw(console, view, feed)
    else:
        _print(view, feed)
    view.job = client.get(job.id)
    _last_words(console, view)
    return view.job


def _last_words(console: Console, view: View) -> None:
    if console.is_terminal:
        console.print(screen.summary(view, console.width))
        return
    # Never wrapped: what reads a pipe wants whole paths.
    console.width = WIDE
    with console.capture() as captured:
        console.print(screen.summary(view, WIDE))
    for text_line in captured.get().splitlines():
        output.line(text_line.rstrip())


def _draw(console: Console, view: View, feed: Feed) -> None:
    """On a screen of its own, so that resizing the terminal leaves nothing behind."""
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while not feed.finished:
            due = time.monotonic() + 1 / FRAMES
            while (left := due - time.monotonic()) > 0 and not feed.finished:
                for update in feed.next(left):
                    view.take(update)
            size = screen.Size(console.width, console.height)
            live.update(screen.live(view, size, datetime.now(UTC)), refresh=True)


def _print(view: View, feed: Feed) -> None:
    """A line for each thing that happens, and now and then one for the progress."""
    spoke = 0.0
    state = ""
    while not feed.finished:
        for update in feed.next(1.0):
            view.take(update)
            told = _told(update, state)
            if isinstance(update, Job):
                state = update.state
            if told is None and isinstance(update, Event) and isinstance(update.kind, StepMetrics):
                told = _step(view, update.kind) if time.monotonic() - spoke >= PLAIN_SECONDS else None
                spoke = time.monotonic() if told else spoke
            if told:
                when = update.update_time if isinstance(update, Job) else update.time
                output.line(f"{when.astimezone():%H:%M:%S}  {told}")
                output.flush()


def _told(update: Update, state: str) -> str | None:
    """What to say about something that does not happen all the time."""
    if isinstance(update, Job):
        reason = update.reason.message if update.reason else ""
        return f"{update.state}: {reason}" if update.state != state else None
    if not isinstance(update, Event):
        return None
    match update.kind:
        case PhaseChanged() as changed if changed.fraction is None:
            return str(changed.phase or "").replace("_", " ")
        case EvaluationMetrics() as evaluation:
            best = ", the best so far" if evaluation.best else ""
            return f"step {evaluation.step}  eval loss {text.number(evaluation.loss)}{best}"
        case GeneratedAnswers() as written if written.answers:
            first = written.answers[0]
            return f"step {written.step}  answers {first.generated!r:.100} where {first.expected!r:.100} is expected"
        case CheckpointSaved() as saved:
            return f"step {saved.step}  saved {saved.name}"
        case Notice() as notice:
            return notice.text
    return None


def _step(view: View, step: StepMetrics) -> str:
    total = f"/{view.total_steps}" if view.total_steps else ""
    parts = [f"step {step.step}{total}", f"loss {text.number(step.loss)}", f"lr {text.number(step.learning_rate)}"]
    parts.append(f"{text.count(step.tokens_per_second)} tokens/s")
    return "  ".join([*parts, f"eta {text.duration(view.eta_seconds)}"])
