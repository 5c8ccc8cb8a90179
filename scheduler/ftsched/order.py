"""Who is tried first: priority class, then who was moved to the front, then fair share, then the shortest service.

Shortest service first is what makes the average wait short; aging is what keeps it from starving the largest job. Pure:
the caller says what time it is, and tells the line who was started.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import groupby

from ftsched.model import Holding, Policy, Snapshot, Waiting
from ftsched.share import Widths

# A job of unknown length is expected to run as long again as it has run, in steps of LEVEL from FIRST device-seconds:
# few levels, so that equals do not take turns for ever.
FIRST = 3600.0
LEVEL = 4.0
Key = tuple[float, float, str]


class Services:
    """How much service jobs are expected to need still, in device-seconds."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._widths = Widths(snapshot.devices)

    def width(self, job: Waiting | Holding) -> float:
        """Devices' worth that the job holds."""
        return self._widths.of(job.ask)

    def of(self, job: Waiting | Holding) -> float:
        """The estimate; of a job of unknown length what it has had, rounded up to a level."""
        width = self._widths.of(job.ask)
        if job.run_seconds is not None:
            return width * max(job.run_seconds, 0.0)
        level, attained = FIRST, width * job.attained_seconds
        while level <= attained:
            level *= LEVEL
        return level


def aged(service: float, job: Waiting, policy: Policy, now: float) -> float:
    """The service, halved for each `aging_seconds` that the job has waited."""
    waited = max(0.0, now - job.queue_time - job.attained_seconds)
    return service * math.exp2(-waited / policy.aging_seconds)


class Line:
    """The waiting jobs in the order they are tried; starts are charged while it is walked."""

    def __init__(self, snapshot: Snapshot, services: Services, now: float) -> None:
        self._snapshot, self._services, self._now = snapshot, services, now
        self._usage: dict[str, float] = defaultdict(float, snapshot.usage)

    def charge(self, job: Waiting) -> None:
        """The job was started: its project has had its estimate, before others are asked."""
        self._usage[job.project] += self._services.of(job)

    def __iter__(self) -> Iterator[Waiting]:
        jobs = sorted(self._snapshot.waiting, key=_class)
        for _, group in groupby(jobs, key=_class):
            yield from self._by_share(list(group))

    def _by_share(self, jobs: list[Waiting]) -> Iterator[Waiting]:
        """The next job of the project that has had least of its share, again after each job."""
        queues: dict[str, list[Waiting]] = defaultdict(list)
        for job in sorted(jobs, key=self._key, reverse=True):
            queues[job.project].append(job)
        heap = [(self._had(project), project) for project in queues]
        heapify(heap)
        while heap:
            _, project = heappop(heap)
            yield queues[project].pop()
            if queues[project]:
                heappush(heap, (self._had(project), project))

    def _had(self, project: str) -> float:
        return self._usage[project] / self._snapshot.policy.weights.get(project, 1.0)

    def _key(self, job: Waiting) -> Key:
        service = self._services.of(job)
        return (aged(service, job, self._snapshot.policy, self._now), job.queue_time, job.job)


def _class(job: Waiting) -> tuple[int, bool]:
    return (-job.priority, not job.front)
