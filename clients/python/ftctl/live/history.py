"""What a job has measured, as series: each metric by its name, as reported and smoothed. Pure: no clock, no screen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from ftclient.events import AttemptStarted, EvaluationMetrics, Event, StepMetrics
from ftclient.history import figures
from ftctl.live.chart import Axis, Point

# Samples of a series that are kept; no terminal has so many columns.
KEPT = 4096


class Place(NamedTuple):
    """Where in a training: updates done, seconds since the first start, tokens seen. The fields are the axes."""

    step: int
    time: float
    tokens: int


class Sample(NamedTuple):
    """One finite value of a metric."""

    place: Place
    value: float


class Restart(NamedTuple):
    """An attempt after the first, and where it began."""

    attempt: int
    place: Place


class History:
    """Series of the metrics in `names`, or of all, folded from a job's events.

    `weight` is that of the past in the smoothed values, 0 to below 1. Values that are not finite are in no series;
    `broken` has the metrics whose last value was none.
    """

    def __init__(self, weight: float, names: Collection[str] = ()) -> None:
        self.raw: dict[str, list[Sample]] = defaultdict(list)
        self.smooth: dict[str, list[Sample]] = defaultdict(list)
        self.restarts: list[Restart] = []
        self.broken: set[str] = set()
        self._weight = weight
        self._names = names
        self._start: float | None = None
        self._tokens = 0

    def take(self, event: Event) -> None:
        """Adds what the event measured."""
        now = event.time.timestamp()
        match event.kind:
            case AttemptStarted(first_step=step):
                self._start = now if self._start is None else self._start
                self._forget_after(step)
                if event.attempt > 1:
                    self.restarts.append(Restart(event.attempt, Place(step, now - self._start, self._tokens)))
            case StepMetrics(step=step) | EvaluationMetrics(step=step):
                self._start = now if self._start is None else self._start
                if isinstance(event.kind, StepMetrics):
                    self._tokens = event.kind.tokens
                place = Place(step, now - self._start, self._tokens)
                for name, value in figures(event).items():
                    if value is not None and (not self._names or name in self._names):
                        self._add(name, place, value)

    def points(self, name: str, axis: Axis = Axis.STEP, *, smooth: bool = False) -> list[Point]:
        """The series as points of a chart."""
        samples = (self.smooth if smooth else self.raw).get(name, ())
        return [(getattr(place, axis), value) for place, value in samples]

    def _forget_after(self, step: int) -> None:
        """An attempt that resumes does the steps after its checkpoint again."""
        for series in (*self.raw.values(), *self.smooth.values()):
            series[:] = [sample for sample in series if sample.place.step <= step]
        self.restarts = [restart for restart in self.restarts if restart.place.step <= step]

    def _add(self, name: str, place: Place, value: float) -> None:
        if not math.isfinite(value):
            self.broken.add(name)
            return
        self.broken.discard(name)
        raw, smooth = self.raw[name], self.smooth[name]
        before = smooth[-1].value if smooth else value
        raw.append(Sample(place, value))
        smooth.append(Sample(place, self._weight * before + (1 - self._weight) * value))
        for series in (raw, smooth):
            if len(series) > KEPT:
                series[:] = thinned(series)


def thinned(series: list[Sample]) -> list[Sample]:
    """About half of the samples: of every four the lowest and the highest, so that no spike is lost."""
    kept: list[Sample] = []
    for start in range(0, len(series), 4):
        group = series[start : start + 4]
        ends = {min(group, key=lambda sample: sample.value), max(group, key=lambda sample: sample.value)}
        kept.extend(sorted(ends))
    return kept
