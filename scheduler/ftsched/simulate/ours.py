"""The daemon's own plan as the scheduler of a simulation: snapshots go in, starts and preemptions come out.

Nothing is decided here. Where every event gives up all places, as in Muri's simulator, each unfinished job is handed
in as waiting; else running jobs hold their devices, and only the plan's preemptions take them away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ftsched.model import Ask, Device, Holding, Plan, Policy, Snapshot, Waiting
from ftsched.plan import Walk, plan
from ftsched.simulate.engine import Run
from ftsched.simulate.estimates import remaining_seconds
from ftsched.simulate.formats import MILLI

Clock = Callable[[], float]


@dataclass(slots=True)
class PlanScheduler:
    """Hands the plan what it would see in the daemon.

    `drop`: all places are given up at every event. With a `clock`, whole plans are timed in `plan_seconds`; without,
    the words for those who wait are left out, which decide nothing.
    """

    devices: tuple[Device, ...]
    policy: Policy
    drop: bool
    clock: Clock | None = None
    plan_seconds: list[float] = field(default_factory=list)
    _runs: dict[str, Run] = field(default_factory=dict)
    _ids: dict[Run, str] = field(default_factory=dict)
    _asks: dict[Run, Ask] = field(default_factory=dict)
    _cards: dict[str, tuple[int, int]] = field(default_factory=dict)
    _names: dict[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hosts = {host: number for number, host in enumerate(dict.fromkeys(device.host for device in self.devices))}
        self._cards = {device.id: (hosts[device.host], device.index) for device in self.devices}
        self._names = {card: name for name, card in self._cards.items()}

    def arrive(self, run: Run) -> None:
        """A waiting job; ids sort as the jobs came."""
        name = f"{len(self._ids):07d}"
        self._runs[name], self._ids[run] = run, name
        self._asks[run] = Ask("gpu", run.job.cards, self.devices[0].total_bytes * run.job.milli // MILLI)

    def finish(self, run: Run) -> None:
        """Its devices are free."""
        del self._runs[self._ids[run]]

    def next_wish(self, now: float) -> float:
        """Never: the plan is asked when something happened."""
        return math.inf

    def decide(self, now: float) -> None:
        """Plan, and plan again as long as jobs were preempted: these wait too, and their devices are free."""
        before = {run: run.place for run in self._runs.values() if run.running} if self.drop else {}
        for run in before:
            run.place = ()
        while self._apply(now, before):
            pass
        for run in before:
            if not run.running:
                run.stop()

    def _apply(self, now: float, before: dict[Run, tuple[tuple[int, int], ...]]) -> bool:
        """Whether anything was preempted."""
        snapshot = self._snapshot(now)
        found = self._timed_plan(snapshot, now, self.clock) if self.clock else Walk(snapshot, now)
        for start in found.starts:
            run, place = self._runs[start.job], tuple(self._cards[device] for device in start.devices)
            if place == before.get(run):
                run.place = place
            else:
                run.start(place, now)
        for preemption in found.preemptions:
            self._runs[preemption.job].stop()
        return bool(found.preemptions)

    def _timed_plan(self, snapshot: Snapshot, now: float, clock: Clock) -> Plan:
        began = clock()
        found = plan(snapshot, now)
        self.plan_seconds.append(clock() - began)
        return found

    def _snapshot(self, now: float) -> Snapshot:
        waiting = [self._waiting(name, run) for name, run in self._runs.items() if not run.running]
        holding = [self._holding(name, run) for name, run in self._runs.items() if run.running]
        return Snapshot(self.devices, tuple(waiting), tuple(holding), policy=self.policy)

    def _waiting(self, name: str, run: Run) -> Waiting:
        return Waiting(
            name,
            self._asks[run],
            priority=0,
            queue_time=run.job.submit,
            run_seconds=remaining_seconds(run) if run.known else None,
            attained_seconds=run.attained,
        )

    def _holding(self, name: str, run: Run) -> Holding:
        return Holding(
            name,
            tuple(self._names[card] for card in run.place),
            self._asks[run],
            start_time=run.started,
            run_seconds=run.owed + remaining_seconds(run) if run.known else None,
            attained_seconds=run.attained,
        )


def devices(nodes: int, cards: int, total_bytes: int, *, share: bool) -> tuple[Device, ...]:
    """The empty devices of a cluster of equal hosts."""
    return tuple(
        Device(f"{node}/{card}", str(node), "gpu", "GPU", card, total_bytes, 0, max_jobs=None if share else 1)
        for node in range(nodes)
        for card in range(cards)
    )
