"""Whom to stop so that a job can start: the fewest, of the lowest class, who lost the least, and never for nothing.

Preemption costs work: what was done since the last checkpoint, and the restart. So a job is left alone for its first
while, a job that is about to leave is counted before anybody else is asked to, and between equals only a much longer
one yields, which then cannot ask for its place back. This only names victims; stopping them is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ftsched.backfill import QUANTUM_SECONDS, Future, Reservation
from ftsched.model import Ask, Holding, Snapshot, Waiting
from ftsched.order import Services
from ftsched.places import Place, Places

# A running job yields to one of its own class only if it has this many times the service before it.
MUCH_LONGER = 2.0
# A project loses a job to another one only if it has then still had this much more of its share, or two would swap.
MARGIN = 1.1
# So many jobs look for victims in one plan, each at so many; the next plan comes soon.
LOOKS = 8
LOOKED = 256
Where = tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """A place, who is to be stopped for it, and everybody whose leaving makes it."""

    reservation: Reservation
    stopped: tuple[Holding, ...]
    makers: tuple[str, ...]


class Preemptor:
    """The running jobs that may be stopped during one plan."""

    def __init__(self, snapshot: Snapshot, services: Services, now: float) -> None:
        self._policy, self._services, self._now = snapshot.policy, services, now
        self._snapshot = snapshot
        self._looks = LOOKS
        self._failed: list[tuple[Ask, int]] = []
        self._leaving = {held.job: held for held in snapshot.holding if held.leaving}

    @cached_property
    def _may(self) -> list[Holding]:
        """Who may be stopped, the lowest class first, then who started last: it has the least to lose."""
        if self._policy.preempt == "off":
            return []
        may = [held for held in self._snapshot.holding if self._may_stop(held)]
        return sorted(may, key=lambda held: (held.priority, -held.start_time, held.job))

    def _may_stop(self, held: Holding) -> bool:
        old = self._now - held.start_time >= self._policy.min_run_seconds
        return held.preemptible and not held.leaving and old

    def make_room(self, job: Waiting, places: Places) -> MadeRoom | None:
        """The place that the job gets if others leave, and whom to stop: nobody if those who leave already do."""
        if not self._looks or not (self._may or self._leaving):
            return None
        if any(_harder(job, ask, priority) for ask, priority in self._failed):
            return None
        victims = self._victims(job)
        if not victims and not any(self._yields(held, job) for held in self._leaving.values()):
            return None
        self._looks -= 1
        found = self._fewest(job, places, [*self._leaving.values(), *victims])
        if found is None:
            if self._policy.preempt == "priority":
                self._failed.append((job.ask, job.priority))
            return None
        place, ended = found
        stopped = tuple(held for held in ended if held.job not in self._leaving)
        self._leaving.update({held.job: held for held in stopped})
        self._may = [held for held in self._may if held.job not in self._leaving]
        reservation = Reservation(place, self._now + QUANTUM_SECONDS)
        return MadeRoom(reservation, stopped, tuple(held.job for held in ended))

    def _victims(self, job: Waiting) -> list[Holding]:
        """The first of those who may be stopped for the job."""
        found: list[Holding] = []
        # Equals yield only where service counts. Who is above them never does, and they come last.
        highest = job.priority if self._policy.preempt == "service" else job.priority - 1
        for held in self._may:
            if held.priority > highest or len(found) == LOOKED:
                break
            if self._yields(held, job):
                found.append(held)
        return found

    def _fewest(self, job: Waiting, places: Places, ended: list[Holding]) -> tuple[Where, list[Holding]] | None:
        """The first place that these make for the job by leaving, and those of them that it needs gone."""
        found = _first_fit(places, job, ended)
        if found is None:
            return None
        place, ended = found
        # Who has nothing on its hosts is not needed for it; of the others, who was added last is asked first to stay.
        hosts = {part.node.host for part in place}
        ended = [held for held in ended if hosts.intersection(places.hosts_of(held))]
        for held in reversed(ended):
            if held.job not in self._leaving and (
                fewer := _first_fit(places, job, [h for h in ended if h is not held])
            ):
                place, ended = fewer
        return place, ended

    def gains(self, reservation: Reservation | None) -> bool:
        """Whether stopping others would let a job start sooner than it will anyhow."""
        return reservation is None or reservation.time > self._now + QUANTUM_SECONDS + self._policy.restart_seconds

    def _yields(self, held: Holding, job: Waiting) -> bool:
        if held.priority != job.priority:
            return held.priority < job.priority
        if self._policy.preempt != "service":
            return False
        needs, gives = self._services.of(job), self._services.of(held)
        if gives < MUCH_LONGER * (needs + self._policy.restart_seconds * self._services.width(held.ask)):
            return False
        return held.project == job.project or self._had(held.project, -gives) >= MARGIN * self._had(job.project, needs)

    def _had(self, project: str, change: float) -> float:
        return (self._snapshot.usage.get(project, 0.0) + change) / self._policy.weights.get(project, 1.0)


def _harder(job: Waiting, ask: Ask, priority: int) -> bool:
    """Whether a job asks for no less than another one that found no room, and may stop no more."""
    more = job.ask.devices >= ask.devices and job.ask.bytes_per_device >= ask.bytes_per_device
    if job.priority > priority or not more:
        return False
    return replace(job.ask, devices=ask.devices, bytes_per_device=ask.bytes_per_device) == ask


def _first_fit(places: Places, job: Waiting, ended: Sequence[Holding]) -> tuple[Where, list[Holding]] | None:
    """The first place that the ends of these jobs make for the job, and those of them that had ended by then."""
    future = Future(places, job.ask)
    for count, held in enumerate(ended, start=1):
        if place := future.end(held):
            return place, list(ended[:count])
    return None
