"""When each waiting job will start: the plan itself, run forward over the expected ends of what runs.

Three runs, with all durations as estimated, shorter and longer, give a time and its range. Nobody knows what will be
submitted meanwhile, or when a process that is not ours ends: a job that no expected end lets start has no forecast.
Pure, but far slower than a plan.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import inf

from ftsched.backfill import expected_end
from ftsched.model import Device, Forecast, Holding, Snapshot
from ftsched.order import Services
from ftsched.plan import Walk

# Runs turn out to take between two thirds and half as long again, as a rule.
SHORTER, LONGER = 2 / 3, 3 / 2
# So many moments are looked at; a queue that is longer has no forecast at its end.
MOMENTS = 256


def forecast(snapshot: Snapshot, now: float) -> dict[str, Forecast]:
    """When the waiting jobs start, by job; those that nobody can say it of are not in it."""
    expected = _starts(snapshot, now, 1.0)
    sooner, later = _starts(snapshot, now, SHORTER), _starts(snapshot, now, LONGER)
    found = {}
    for job, time in expected.items():
        times = (time, sooner.get(job, time), later.get(job, time))
        # What is shorter may let another job pass: the ends of the range are those of all three.
        found[job] = Forecast(min(times), time, max(times))
    return found


def _starts(snapshot: Snapshot, now: float, factor: float) -> dict[str, float]:
    """When each job starts if every run takes `factor` times what is expected of it."""
    world, time = _stretched(snapshot, factor), now
    starts: dict[str, float] = {}
    for _ in range(MOMENTS):
        walk = Walk(world, time)
        starts.update({start.job: time for start in walk.starts})
        world = _decided(world, walk)
        end = min((expected_end(held, time) for held in world.holding), default=inf)
        if not world.waiting or end == inf:
            break
        world, time = _later(world, time, end), end
    return starts


def _stretched(snapshot: Snapshot, factor: float) -> Snapshot:
    def stretch(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * factor

    return replace(
        snapshot,
        waiting=tuple(replace(job, run_seconds=stretch(job.run_seconds)) for job in snapshot.waiting),
        holding=tuple(replace(held, run_seconds=stretch(held.run_seconds)) for held in snapshot.holding),
    )


def _decided(world: Snapshot, walk: Walk) -> Snapshot:
    """The world after the plan: who started holds, is charged and waits no more; who makes room is leaving."""
    started = {start.job for start in walk.starts}
    leaving = {preemption.job for preemption in walk.preemptions}
    services, usage = Services(world), defaultdict(float, world.usage)
    for job in world.waiting:
        if job.job in started:
            usage[job.project] += services.of(job)
    held = tuple(replace(each, leaving=True) if each.job in leaving else each for each in world.holding)
    waiting = tuple(job for job in world.waiting if job.job not in started)
    return replace(world, waiting=waiting, holding=(*held, *walk.started), usage=usage)


def _later(world: Snapshot, time: float, end: float) -> Snapshot:
    """The world at the next end. A job that had to make room is gone too: what becomes of it is another forecast."""
    stay: list[Holding] = []
    gone: list[Holding] = []
    for held in world.holding:
        (gone if expected_end(held, time) <= end else stay).append(held)
    passed = end - time
    holding = tuple(
        replace(
            held,
            run_seconds=None if held.run_seconds is None else max(0.0, held.run_seconds - passed),
            attained_seconds=held.attained_seconds + passed,
        )
        for held in stay
    )
    return replace(world, devices=tuple(_without(device, gone) for device in world.devices), holding=holding)


def _without(device: Device, gone: list[Holding]) -> Device:
    """The device when those have given back what they use there."""
    used = sum(held.used_bytes.get(device.id, 0) for held in gone)
    return replace(device, used_bytes=max(0, device.used_bytes - used)) if used else device
