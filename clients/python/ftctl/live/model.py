"""What the live view knows of a job, folded from its three streams. Pure: no clock, no terminal, no network."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from ftclient.events import (
    AttemptStarted,
    CheckpointSaved,
    Event,
    LogLine,
    Notice,
    PhaseChanged,
    StepMetrics,
)
from ftclient.results import Job
from ftctl.live.chart import Point
from ftctl.live.history import History

# Weight of the past in the smoothed loss.
SMOOTHING = 0.8
LINES = 200
Update = Job | Event | LogLine


def _history() -> History:
    return History(SMOOTHING, ("loss", "eval_loss"))


@dataclass(slots=True)
class View:
    """A job as the screen shows it."""

    job: Job
    history: History = field(default_factory=_history)
    step: StepMetrics | None = None
    phase: str = ""
    fraction: float | None = None
    total_steps: int = 0
    attempt: int = 0
    checkpoint: str = ""
    notice: str = ""
    notice_time: datetime | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))

    def take(self, update: Update) -> None:
        """Adds what one of the streams brought."""
        if isinstance(update, Job):
            self.job = update
            if update.progress:
                self.phase = str(update.progress.phase or self.phase)
                self.total_steps = update.progress.total_steps or self.total_steps
        elif isinstance(update, LogLine):
            self.lines.append(update.text)
        else:
            self.attempt = max(self.attempt, update.attempt)
            self.history.take(update)
            self._take_event(update)

    def _take_event(self, event: Event) -> None:
        match event.kind:
            case AttemptStarted() as started:
                self.total_steps = started.total_steps
            case PhaseChanged() as changed:
                self.phase, self.fraction = str(changed.phase or ""), changed.fraction
            case StepMetrics() as step:
                self.step = step
            case CheckpointSaved() as saved:
                self.checkpoint = saved.name
            case Notice() as notice:
                self.notice, self.notice_time = notice.text, event.time

    @property
    def losses(self) -> list[Point]:
        """Steps and their losses."""
        return self.history.points("loss")

    @property
    def evals(self) -> list[Point]:
        """Steps and the losses of their evaluations."""
        return self.history.points("eval_loss")

    @property
    def done(self) -> int:
        """Updates done."""
        known = self.job.progress.step if self.job.progress else 0
        return max(known, self.step.step if self.step else 0)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end, as the daemon last said."""
        return self.job.progress.eta_seconds if self.job.progress else None

    @property
    def peak_bytes(self) -> int:
        """Peak memory so far."""
        known = self.job.progress.peak_memory_bytes if self.job.progress else 0
        return max(known, self.step.peak_memory_bytes if self.step else 0)
