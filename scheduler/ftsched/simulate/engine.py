"""Time: arrivals, completions and the progress of what runs, under the rules of Muri's simulator or under real ones.

    muri      the overhead of a start is charged at every event to every running job, moved or not, and a planned end
              does not count it
    restart   the overhead is charged once for every start, and a job ends when its work is done

Who runs where is decided by a `Scheduler`; nothing here prefers one job to another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ftsched.simulate.cluster import Place
from ftsched.simulate.formats import Job

Rules = Literal["muri", "restart"]


@dataclass(slots=True, eq=False)
class Run:
    """A job on its way. `factor` is its estimated over its true run time, infinite if nobody knows.

    `attained` are the seconds that it held devices so far, overhead included; `owed` is overhead that is still to be
    paid; `end` is when it will be done if nothing stops it.
    """

    job: Job
    factor: float
    done_steps: float = 0.0
    attained: float = 0.0
    place: Place = ()
    started: float = math.nan
    first_started: float | None = None
    owed: float = 0.0
    end: float = math.inf
    stops: int = 0

    @property
    def known(self) -> bool:
        """Whether there is an estimate of its run time."""
        return math.isfinite(self.factor)

    @property
    def running(self) -> bool:
        """Whether it holds devices."""
        return bool(self.place)

    def left_seconds(self) -> float:
        """How long it truly still has to run, without overhead."""
        return (self.job.steps - self.done_steps) * self.job.step_seconds

    def start(self, place: Place, now: float) -> None:
        """Put it on these cards; it may have been on others."""
        self.place, self.started, self.owed = place, now, self.job.overhead_seconds
        if self.first_started is None:
            self.first_started = now

    def stop(self) -> None:
        """Take it from its cards; it keeps its progress."""
        self.place, self.end = (), math.inf
        self.stops += 1


class Scheduler(Protocol):
    """Decides who runs."""

    def arrive(self, run: Run) -> None:
        """A job joins the queue."""

    def finish(self, run: Run) -> None:
        """A job is done and off its cards."""

    def decide(self, now: float) -> None:
        """Start and stop jobs."""

    def next_wish(self, now: float) -> float:
        """When it wants to decide again even if nothing happens; infinity: never."""


@dataclass(slots=True)
class Outcome:
    """What became of the jobs, in the order of the trace; the cards that were held, in card-seconds."""

    runs: Sequence[Run]
    finished: dict[Run, float] = field(default_factory=dict)
    events: int = 0
    card_seconds: float = 0.0


def simulate(runs: Sequence[Run], scheduler: Scheduler, rules: Rules) -> Outcome:
    """Run all jobs, which are sorted by submission, to their end, or until nothing can happen any more."""
    outcome = Outcome(runs)
    coming, active, last = list(reversed(runs)), list[Run](), 0.0
    while coming or active:
        arrival = coming[-1].job.submit if coming else math.inf
        happens = min(arrival, min((run.end for run in active), default=math.inf))
        now = min(happens, scheduler.next_wish(last)) if active else happens
        if now == math.inf:
            break
        outcome.events += 1
        running = [run for run in active if run.running]
        outcome.card_seconds += sum(run.job.size for run in running) * (now - last)
        for run in running:
            _progress(run, now, last, rules)
        # What is due at the instant of a wish of the scheduler is left to the next event, as in Muri's simulator.
        if now == happens:
            _finish([run for run in running if run.end == now], now, active, scheduler, outcome)
            while coming and coming[-1].job.submit == now:
                active.append(coming.pop())
                scheduler.arrive(active[-1])
        scheduler.decide(now)
        for run in active:
            if run.running:
                run.end = now + run.left_seconds() + (run.owed if rules == "restart" else 0.0)
        last = now
    return outcome


def _finish(ended: Sequence[Run], now: float, active: list[Run], scheduler: Scheduler, outcome: Outcome) -> None:
    for run in ended:
        outcome.finished[run] = now
        active.remove(run)
        scheduler.finish(run)


def _progress(run: Run, now: float, last: float, rules: Rules) -> None:
    elapsed = now - last
    if rules == "muri":
        lost = run.job.overhead_seconds
    else:
        lost = min(run.owed, elapsed)
        run.owed -= lost
    run.done_steps += max(0.0, elapsed - lost) / run.job.step_seconds
    # Added in this order: summed as old + (now - last), rounding could put a limit an instant before now, for ever.
    run.attained = (run.attained + now) - last
