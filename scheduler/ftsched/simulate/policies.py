"""The orders of the literature: each policy sorts the list of all jobs that are not done. None of them places a job.

    fifo       the order of submission
    sjf        shortest run time first
    ssf        shortest service first: run time x devices
    srtf       shortest remaining run time first
    srsf       shortest remaining service first
    tiresias   least attained service first, in three queues; it knows no run time (NSDI 2019)

Sorting is stable: ties keep the order of the event before, as the published figures need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from ftsched.simulate.engine import Run
from ftsched.simulate.estimates import estimated_seconds, remaining_seconds


class Order(Protocol):
    """Sorts the queue at every event."""

    def sort(self, queue: list[Run]) -> None:
        """Bring the list of all jobs that are not done, running ones included, into the order of the policy."""

    def next_wish(self, queue: list[Run], now: float) -> float:
        """When the order changes by itself; infinity: never."""


class ByKey:
    """An order by one number, which only changes when something happens."""

    def __init__(self, key: Callable[[Run], float]) -> None:
        self._key = key

    def sort(self, queue: list[Run]) -> None:
        """Smallest first."""
        queue.sort(key=self._key)

    def next_wish(self, queue: list[Run], now: float) -> float:
        """Never."""
        return math.inf


class Tiresias:
    """Three queues by attained service; a running job drops one queue at its limit and never rises."""

    # Device-seconds.
    LIMITS = (3_250, 7_200)

    def __init__(self) -> None:
        self._queue_of: dict[Run, int] = {}

    def sort(self, queue: list[Run]) -> None:
        """By queue, in it running before pending before those that drop now, and then as before."""
        dropped = {run for run in queue if run.running and self._at_limit(run)}
        for run in dropped:
            self._queue_of[run] = self._queue(run) + 1
        queue.sort(key=lambda run: (self._queue(run), 2 if run in dropped else not run.running))

    def next_wish(self, queue: list[Run], now: float) -> float:
        """When the next running job reaches its limit."""
        return min(
            (
                now + math.ceil(self.LIMITS[self._queue(run)] / run.job.cards) - run.attained
                for run in queue
                if run.running and self._queue(run) < len(self.LIMITS)
            ),
            default=math.inf,
        )

    def _queue(self, run: Run) -> int:
        return self._queue_of.get(run, 0)

    def _at_limit(self, run: Run) -> bool:
        queue = self._queue(run)
        return queue < len(self.LIMITS) and run.attained * run.job.cards >= self.LIMITS[queue]


ORDERS: Mapping[str, Callable[[], Order]] = {
    "fifo": lambda: ByKey(lambda run: run.job.submit),
    "sjf": lambda: ByKey(estimated_seconds),
    "ssf": lambda: ByKey(lambda run: run.job.size * estimated_seconds(run)),
    "srtf": lambda: ByKey(remaining_seconds),
    "srsf": lambda: ByKey(lambda run: run.job.size * remaining_seconds(run)),
    "tiresias": Tiresias,
}
# These need a run time to sort by.
KNOWING = frozenset(ORDERS) - {"fifo", "tiresias"}
