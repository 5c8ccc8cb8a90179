"""Who is tried first: priority class, then who was moved to the front, then fair share, then the shortest service.

Shortest service first is what makes the average wait short; aging is what keeps it from starving the largest job. Pure:
the caller says what time it is, and tells the line who was started.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace

from ftsched.model import Holding, Policy, Snapshot, Waiting
from ftsched.share import Widths

# A job of unknown length is expected to run on for FIRST_SECONDS, once it has run as long for LEVEL times that, and so
# on. Few levels, since equals would take turns for ever. In a level who has run longest goes on, and ends the soonest.
FIRST_SECONDS = 7200.0
LEVEL = 64.0
# Between shortest service, best where all devices are always busy, and shortest time, best where they are not.
WIDTH_POWER = 0.9
# A long job ages slowly: waiting as long as so many of its runs is as much as `aging_seconds` to a short one.
AGING_RUNS = 32.0
Key = tuple[float, float, float, str]


class Services:
    """How long jobs are expected to run still, and how much service that is, in device-seconds."""

    def __init__(self, snapshot: Snapshot) -> None:
        # Devices' worth that a job holds.
        self.width = Widths(snapshot.devices).of

    def of(self, job: Waiting | Holding) -> float:
        """The service that the job is expected to need still."""
        return self.width(job.ask) * expected_seconds(job)


def expected_seconds(job: Waiting | Holding) -> float:
    """The estimate; of a job of unknown length what it has had, rounded up to a level."""
    if job.run_seconds is not None:
        return max(job.run_seconds, 0.0)
    level = FIRST_SECONDS
    while level <= job.attained_seconds:
        level *= LEVEL
    return level


def waited(job: Waiting, now: float) -> float:
    """Seconds that the job has been in the queue without running."""
    return max(0.0, now - job.queue_time - job.attained_seconds)


def key(job: Waiting, width: float, policy: Policy, now: float) -> Key:
    """The lower, the earlier: shortest service, halved each time the job has waited long; ids make it total."""
    seconds = expected_seconds(job)
    service = seconds * width**WIDTH_POWER
    if halvings := waited(job, now) // max(policy.aging_seconds, AGING_RUNS * seconds):
        service *= 0.5**halvings
    return (service, -job.attained_seconds, job.queue_time, job.job)


class Line:
    """The waiting jobs in the order they are tried; starts are charged while it is walked."""

    def __init__(self, snapshot: Snapshot, services: Services, now: float) -> None:
        self._snapshot, self._services, self._now = snapshot, services, now
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
        """The next job of the project that has had least of its share, again after each job that started."""
        queues: dict[str, list[Waiting]] = defaultdict(list)
        for job in sorted(jobs, key=self._key, reverse=True):
            queues[job.project].append(job)
        heap = [(self._had(project), project) for project in queues]
        heapify(heap)
        while heap:
            before, project = heap[0]
            queue = queues[project]
            while queue and self._had(project) == before:
                yield queue.pop()
            if queue:
                heapreplace(heap, (self._had(project), project))
            else:
                heappop(heap)

    def _had(self, project: str) -> float:
        return self._usage[project] / self._snapshot.policy.weights.get(project, 1.0)

    def _key(self, job: Waiting) -> Key:
        return key(job, self._services.width(job.ask), self._snapshot.policy, self._now)
