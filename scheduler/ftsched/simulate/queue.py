"""A scheduler of the literature: an order, a placement, and a rule for who may pass a job that does not fit.

With preemption all places are given up at every event and taken anew in the order of the list; without, a job that
runs stays where it is. Backfill is `none` (stop at the first job that does not fit), `fill` (try all) or `easy` (others
may pass if they leave the first blocked job its reservation).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ftsched.simulate.cluster import Cluster, Place, Placement
from ftsched.simulate.engine import Run
from ftsched.simulate.estimates import QUANTUM, remaining_seconds
from ftsched.simulate.policies import Order

Backfill = Literal["none", "fill", "easy"]


@dataclass(slots=True)
class Reservation:
    """When the first blocked job can start, and the cluster as it will be then without that job."""

    run: Run
    time: float
    picture: Cluster


class ListScheduler:
    """Walks the sorted list and starts what fits."""

    def __init__(
        self, cluster: Cluster, order: Order, placement: Placement, *, backfill: Backfill, preempt: bool, keep: bool
    ) -> None:
        """`keep`: a job that goes on stays on its cards if they are free, since a move would cost it its overhead."""
        self._cluster = cluster
        self._order = order
        self._placement = placement
        self._backfill = backfill
        self._preempt = preempt
        self._keep = keep
        self._queue: list[Run] = []

    def arrive(self, run: Run) -> None:
        """At the tail."""
        self._queue.append(run)

    def finish(self, run: Run) -> None:
        """Its cards are free."""
        self._queue.remove(run)
        self._cluster.give(run.place, run.job.milli)

    def next_wish(self, now: float) -> float:
        """As the order says."""
        return self._order.next_wish(self._queue, now)

    def decide(self, now: float) -> None:
        """Sort and walk."""
        self._order.sort(self._queue)
        if not self._preempt:
            placed = [run for run in self._queue if run.running]
            self._walk([run for run in self._queue if not run.running], placed, {}, now)
            return
        before = {run: run.place for run in self._queue if run.running}
        for run, place in before.items():
            self._cluster.give(place, run.job.milli)
            run.place = ()
        self._walk(self._queue, [], before, now)
        for run in before:
            if not run.running:
                run.stop()

    def _walk(self, candidates: Iterable[Run], placed: list[Run], before: dict[Run, Place], now: float) -> None:
        reservation: Reservation | None = None
        # The cluster only fills up while the list is walked, so that what did not fit once does not fit again.
        refused: set[tuple[int, int]] = set()
        for run in candidates:
            shape = (run.job.cards, run.job.milli)
            if shape in refused:
                continue
            place = self._place(run, before)
            if not place:
                if self._backfill == "none":
                    return
                refused.add(shape)
                if self._backfill == "easy" and reservation is None:
                    reservation = self._reserve(run, placed, now)
            elif reservation is None or self._leaves(reservation, run, place, now):
                self._start(run, place, before, now)
                placed.append(run)

    def _place(self, run: Run, before: dict[Run, Place]) -> Place:
        old = before.get(run, ())
        if self._keep and old and self._cluster.has(old, run.job.milli):
            return old
        return self._placement(self._cluster, run.job)

    def _start(self, run: Run, place: Place, before: dict[Run, Place], now: float) -> None:
        self._cluster.take(place, run.job.milli)
        if place == before.get(run):
            run.place = place
        else:
            run.start(place, now)

    def _reserve(self, head: Run, placed: Iterable[Run], now: float) -> Reservation:
        picture, time = self._cluster.copy(), now
        for end, run in sorted(((_expected_end(run, now), run) for run in placed), key=lambda pair: pair[0]):
            if self._placement(picture, head.job):
                break
            picture.give(run.place, run.job.milli)
            time = end
        return Reservation(head, time, picture)

    def _leaves(self, reservation: Reservation, run: Run, place: Place, now: float) -> bool:
        """Whether the job may pass: it is gone by then, or the first one still has its place beside it."""
        if _expected_end(run, now) <= reservation.time:
            return True
        picture = reservation.picture
        if not picture.has(place, run.job.milli):
            return False
        picture.take(place, run.job.milli)
        if self._placement(picture, reservation.run.job):
            return True
        picture.give(place, run.job.milli)
        return False


def _expected_end(run: Run, now: float) -> float:
    """When it ends if it runs from now on. A job of unknown length ends soon if it runs already, else never."""
    if run.running and not run.known:
        return now + QUANTUM
    return now + run.owed + remaining_seconds(run)
