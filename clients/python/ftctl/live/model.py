"""What the live view knows of a job, folded from its three streams. Pure: no clock, no terminal, no network."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ftclient.events import (
    AttemptStarted,
    CheckpointSaved,
    EvaluationMetrics,
    Event,
    LogLine,
    Notice,
    PhaseChanged,
    StepMetrics,
)
from ftclient.results import Job

# Weight of the past in the smoothed loss.
SMOOTHING = 0.8
LINES = 200
# Points of a curve that are kept; no terminal has so many columns.
POINTS = 4096
Point = tuple[int, float]
Update = Job | Event | LogLine


def thinned(series: list[Point]) -> list[Point]:
    """About half of the points: of every four the lowest and the highest, so that no spike is lost."""
    kept: list[Point] = []
    for start in range(0, len(series), 4):
        group = series[start : start + 4]
        ends = {min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])}
        kept.extend(sorted(ends))
    return kept


@dataclass(slots=True)
class View:
    """A job as the screen shows it. `losses`, `smooth` and `evals` are (step, loss), finite values only."""

    job: Job
    losses: list[Point] = field(default_factory=list)
    smooth: list[Point] = field(default_factory=list)
    evals: list[Point] = field(default_factory=list)
    step: StepMetrics | None = None
    phase: str = ""
    fraction: float | None = None
    total_steps: int = 0
    first_step: int = 0
    attempt: int = 0
    checkpoint: str = ""
    notice: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    diverged: bool = False

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
            self._take_event(update)

    def _take_event(self, event: Event) -> None:
        match event.kind:
            case AttemptStarted() as started:
                self.total_steps, self.first_step = started.total_steps, started.first_step
                self._forget_after(started.first_step)
            case PhaseChanged() as changed:
                self.phase, self.fraction = str(changed.phase or ""), changed.fraction
            case StepMetrics() as step:
                self.step = step
                self._add_loss(step.step, step.loss)
            case EvaluationMetrics() as evaluation if math.isfinite(evaluation.loss):
                self.evals.append((evaluation.step, evaluation.loss))
            case CheckpointSaved() as saved:
                self.checkpoint = saved.name
            case Notice() as notice:
                self.notice = notice.text

    def _forget_after(self, step: int) -> None:
        """An attempt that resumes does the steps after its checkpoint again."""
        for series in (self.losses, self.smooth, self.evals):
            series[:] = [point for point in series if point[0] <= step]

    def _add_loss(self, step: int, loss: float) -> None:
        self.diverged = not math.isfinite(loss)
        if self.diverged:
            return
        before = self.smooth[-1][1] if self.smooth else loss
        self.losses.append((step, loss))
        self.smooth.append((step, SMOOTHING * before + (1 - SMOOTHING) * loss))
        for series in (self.losses, self.smooth):
            if len(series) > POINTS:
                series[:] = thinned(series)

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
