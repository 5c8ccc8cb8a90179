"""The decision: which waiting jobs start now and where, who has to make room, and why every other one waits.

`plan(snapshot, now)` is pure: same snapshot, same plan. It never starts a part of a gang, never promises memory twice,
and never lets a later job delay what the first blocked one waits for.

The walk. Jobs are tried in the order of `ftsched.order`; who fits, starts. The first job of each kind of device that
does not fit, but will once jobs of ours end, gets a reservation: the devices and the time at which running jobs are
expected to have left them. A later job may use them only if it is over by then, or leaves enough for the first. So the
first starts in the end, and holes are used meanwhile. A job that waits for a process that is not ours, or for its own
project's quota, keeps nothing: nobody knows when that ends, and devices kept idle for it help no one.
"""

from __future__ import annotations

from math import inf

from ftsched.backfill import keep, reserve
from ftsched.fit import survey
from ftsched.fragments import Fragments
from ftsched.model import Ask, Holding, Kind, Plan, Preemption, Snapshot, Start, Waiting
from ftsched.order import Line, Services
from ftsched.places import Places
from ftsched.preempt import MadeRoom, Preemptor
from ftsched.quotas import Quotas
from ftsched.reasons import Reasons, Refusal, show_preemption

# So many places are compared in one plan at most: with a long queue the tightest place has to do.
COMPARISONS = 500


def plan(snapshot: Snapshot, now: float) -> Plan:
    """Who starts where, who makes room, and why the others wait; `now` in seconds since the epoch."""
    walk = Walk(snapshot, now)
    reasons = Reasons(snapshot, walk.places.nodes)
    waits = tuple(reasons.why(refusal) for refusal in walk.refused)
    return Plan(tuple(walk.starts), waits, tuple(walk.preemptions))


class Walk:
    """One walk along the line: what was decided, without the words."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self._snapshot, self._now = snapshot, now
        self._policy = snapshot.policy
        services = Services(snapshot)
        asks = [job.ask for job in snapshot.waiting] + [held.ask for held in snapshot.holding]
        compared = max(1, COMPARISONS // max(1, len(snapshot.waiting)))
        self.places = Places(survey(snapshot), Fragments(asks), snapshot.policy, compared)
        self._quotas = Quotas(snapshot)
        self._preemptor = Preemptor(snapshot, services, now)
        self._started: list[Waiting] = []
        # Of each kind the first blocked job; and what does not fit though all jobs of ours ended.
        self._heads: dict[Kind, str] = {}
        self._hopeless: set[Ask] = set()
        self.starts: list[Start] = []
        self.refused: list[Refusal] = []
        self.preemptions: list[Preemption] = []
        line = Line(snapshot, services, now)
        for job in line:
            if self._start(job):
                line.charge(job)

    @property
    def started(self) -> list[Holding]:
        """The jobs that were started, as they hold from now on."""
        return [_holding(job, start.devices, self._now) for job, start in zip(self._started, self.starts, strict=True)]

    def _start(self, job: Waiting) -> bool:
        ends = inf if job.run_seconds is None else self._now + job.run_seconds
        if excess := self._quotas.over(job):
            self.refused.append(Refusal(job, ends, excess=excess))
            return False
        if self._policy.backfill == "none" and (head := self._heads.get(job.ask.kind)):
            self.refused.append(Refusal(job, ends, behind=head))
            return False
        place = self.places.find(job.ask, ends)
        if not place:
            self.refused.append(self._blocked(job, ends))
            return False
        devices = self.places.take(place, job.job, job.ask, ends)
        self._quotas.take(job)
        self._started.append(job)
        self.starts.append(Start(job.job, devices))
        return True

    def _blocked(self, job: Waiting, ends: float) -> Refusal:
        """Keeps a place for the job if it is the first, or if others are to make room for it."""
        first = job.ask.kind not in self._heads and job.ask not in self._hopeless
        reservation = (
            reserve(self.places, job.ask, [*self._snapshot.holding, *self.started], self._now) if first else None
        )
        if first and not reservation:
            self._hopeless.add(job.ask)
        gains = not first or self._preemptor.gains(reservation)
        if gains and (room := self._preemptor.make_room(job, self.places)):
            return self._preempt(job, ends, room)
        if reservation:
            self._heads[job.ask.kind] = job.job
            if self._policy.backfill == "easy":
                keep(self.places, job.job, job.ask, reservation)
        return Refusal(job, ends, reservation=reservation)

    def _preempt(self, job: Waiting, ends: float, room: MadeRoom) -> Refusal:
        keep(self.places, job.job, job.ask, room.reservation)
        self._heads.setdefault(job.ask.kind, job.job)
        # It will start as soon as they are gone: nobody is stopped for a job that its quota would then hold back.
        self._quotas.take(job)
        self.preemptions += [Preemption(held.job, job.job, show_preemption(held, job)) for held in room.stopped]
        return Refusal(job, ends, reservation=room.reservation, makers=room.makers)


def _holding(job: Waiting, devices: tuple[str, ...], now: float) -> Holding:
    """A job that was just started."""
    return Holding(job.job, devices, job.ask, {}, job.project, job.priority, now, job.run_seconds, job.attained_seconds)
