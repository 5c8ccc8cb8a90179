"""Who is tried first: priority class, then who was moved to the front, then fair share, then the shortest service.

Shortest service first is what makes the average wait short; aging is what keeps it from starving the largest job. Pure:
the caller says what time it is, and tells the line who was started.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ftsched.exchange import Entry, exchanged
from ftsched.model import Holding, Kind, Snapshot, Waiting
from ftsched.share import Widths

# A job of unknown length is in the first level until it has had FIRST device-seconds, ten device-hours; each level is
# LEVEL times as wide as the one before. Few levels, since equals would take turns for ever.
FIRST = 36_000.0
LEVEL = 100.0
# More would leave nothing of a service to compare.
MOST_HALVINGS = 500.0
Key = tuple[float, float, float, str]


class Services:
    """How much service jobs are expected to need still, in device-seconds."""

    def __init__(self, snapshot: Snapshot) -> None:
        # Devices' worth that a job holds.
        self.width = Widths(snapshot.devices).of

    def of(self, job: Waiting | Holding) -> float:
        """The estimate; of a job of unknown length the end of the level that it is in."""
        width = self.width(job.ask)
        if job.run_seconds is None:
            return level(width * job.attained_seconds)
        return width * max(job.run_seconds, 0.0)

    def free(self, snapshot: Snapshot) -> dict[Kind, float]:
        """Devices' worth of each kind that no job of ours holds."""
        free: dict[Kind, float] = defaultdict(float)
        for device in snapshot.devices:
            free[device.kind] += not device.unfit
        for held in snapshot.holding:
            free[held.ask.kind] -= self.width(held.ask)
        return free


def level(attained: float, halvings: float = 0.0) -> float:
    """The end of the level of a job that has had so much service, in device-seconds; aged, it goes down by levels."""
    service = max(attained, FIRST) * 0.5**halvings
    return FIRST * LEVEL ** math.ceil(math.log(service / FIRST, LEVEL))


class Aging:
    """What waiting counts: each `aging` times as long as all the work there is would take, a service counts as half.

    Measured by the work and not by a clock, it does to an hour's queue what it does to a month's. It has no end, so the
    job that waits longest is first one day, whoever comes.
    """

    def __init__(self, snapshot: Snapshot, services: Services, now: float) -> None:
        work = sum(map(services.of, snapshot.waiting)) + sum(map(services.of, snapshot.holding))
        self._half = max(1.0, snapshot.policy.aging * work / max(1, len(snapshot.devices)))
        self._services, self._now = services, now

    def key(self, job: Waiting) -> Key:
        """The lower, the earlier: the service, or the level of what it has had, and in a level who has run longest."""
        waited = max(0.0, self._now - job.queue_time - job.attained_seconds)
        halvings = min(waited / self._half, MOST_HALVINGS)
        if job.run_seconds is None:
            had = self._services.width(job.ask) * job.attained_seconds
            return (level(had, halvings), -job.attained_seconds, job.queue_time, job.job)
        return (self._services.of(job) * 0.5**halvings, 0.0, job.queue_time, job.job)


class Line:
    """The waiting jobs in the order they are tried; starts are charged while it is walked."""

    def __init__(self, snapshot: Snapshot, services: Services, now: float) -> None:
        self._snapshot, self._services = snapshot, services
        self._key = Aging(snapshot, services, now).key
        self._free = services.free(snapshot)
        self._usage: dict[str, float] = defaultdict(float, snapshot.usage)

    def charge(self, job: Waiting) -> None:
        """The job was started: its project has had its estimate, before others are asked."""
        self._usage[job.project] += self._services.of(job)

    def __iter__(self) -> Iterator[Waiting]:
        classes: dict[tuple[int, bool], list[Waiting]] = defaultdict(list)
        for job in self._snapshot.waiting:
            classes[-job.priority, not job.front].append(job)
        for group in sorted(classes):
            yield from self._by_share(classes[group])

    def _by_share(self, jobs: list[Waiting]) -> Iterator[Waiting]:
        """The next job of the project that has had least of its share, again after each job."""
        queues: dict[str, list[Waiting]] = defaultdict(list)
        for job in jobs:
            queues[job.project].append(job)
        for project in queues:
            queues[project] = self._in_order(queues[project])[::-1]
        heap = [(self._had(project), project) for project in queues]
        heapify(heap)
        while heap:
            _, project = heappop(heap)
            yield queues[project].pop()
            if queues[project]:
                heappush(heap, (self._had(project), project))

    def _had(self, project: str) -> float:
        return self._usage[project] / self._snapshot.policy.weights.get(project, 1.0)

    def _in_order(self, jobs: list[Waiting]) -> list[Waiting]:
        by_id = {job.job: job for job in jobs}
        entries = [self._entry(by_id[key[-1]], key) for key in sorted(map(self._key, jobs))]
        return [by_id[entry.job] for entry in exchanged(entries, self._free)]

    def _entry(self, job: Waiting, key: Key) -> Entry:
        width = self._services.width(job.ask)
        return Entry(job.job, job.ask.kind, width, math.inf if job.run_seconds is None else key[0] / width)
