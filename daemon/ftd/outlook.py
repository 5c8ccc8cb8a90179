"""When the waiting jobs will start, for whoever asks: made after a cycle, in a thread, before anybody asks.

A forecast walks through all that runs and waits, which takes longer than a plan. The newest cycle counts: what was
asked for while one is being made is made next, and only the newest of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ftd.records import Forecast
from ftsched.forecast import forecast
from ftsched.model import Snapshot


class Outlook:
    """The forecasts of the newest cycle that is through. `group` holds the task that makes them."""

    def __init__(self, group: asyncio.TaskGroup, clock: Callable[[], float]) -> None:
        self._group = group
        self._clock = clock
        self._next: Snapshot | None = None
        self._busy = False
        self._forecasts: Mapping[str, Forecast] = {}

    def of(self, job: str) -> Forecast | None:
        """When a job will start; None where nobody can say, or nobody has yet."""
        return self._forecasts.get(job)

    def look(self, snapshot: Snapshot) -> None:
        """Has the forecasts of this snapshot made."""
        self._next = snapshot
        if not self._busy:
            self._busy = True
            self._group.create_task(self._make(), name="outlook")

    async def _make(self) -> None:
        try:
            while (snapshot := self._next) is not None:
                self._next = None
                self._forecasts = await asyncio.to_thread(foresee, snapshot, self._clock())
        finally:
            self._busy = False


def foresee(snapshot: Snapshot, now: float) -> dict[str, Forecast]:
    """The forecast of each waiting job for which there is one. Takes its time: call it in a thread."""
    found = forecast(snapshot, now)
    return {job: Forecast(each.earliest, each.expected, each.latest) for job, each in found.items()}
