"""What one planning cycle costs, from one host to a thousand: the daemon plans at every change of the queue.

Jobs ask for 1, 2, 4 or 8 devices and whole GiB; half of their lengths are unknown. Each fleet is planned four times:
empty, full with a different mix on each host, full with nobody asking for the same, and settled: what that started
runs, so that all wait. The last is the common cycle. The curve says what a job costs there as the cluster grows.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from tests.bench.table import line, title

from ftsched.model import Ask, Device, Holding, Snapshot, Waiting
from ftsched.plan import Walk, plan

GIB = 2**30
NOW = 1_800_000_000.0
# Hosts, waiting jobs, and the milliseconds a cycle may take, where there is a limit.
FLEETS = ((1, 100, 1.0), (10, 100, 0.0), (100, 500, 0.0), (300, 1500, 0.0), (1000, 5000, 100.0))
ROUNDS = 5


def fleet(hosts: int, jobs: int, draw: random.Random, step: int) -> Snapshot:
    """Empty hosts of 8 devices with 80 GiB, and a queue of jobs whose needs are multiples of `step` bytes."""
    devices = tuple(
        Device(f"{host}/{index}", f"host{host}", "gpu", "H100", index, 80 * GIB, 0)
        for host in range(hosts)
        for index in range(8)
    )
    waiting = tuple(
        Waiting(
            f"w{number:05}",
            Ask("gpu", draw.choice([1, 1, 1, 2, 4, 8]), _size(draw, step)),
            priority=draw.choice([0, 0, 0, 5]),
            queue_time=NOW - draw.uniform(0, 86400),
            project=draw.choice("abc"),
            run_seconds=draw.choice([None, draw.lognormvariate(8, 2)]),
        )
        for number in range(jobs)
    )
    return Snapshot(devices, waiting)


def busy(snapshot: Snapshot, draw: random.Random, step: int) -> Snapshot:
    """The same with a job on every device, all of different sizes."""
    holding = tuple(
        Holding(
            f"h{number:05}",
            (device.id,),
            Ask("gpu", 1, _size(draw, step)),
            start_time=NOW - 3600,
            run_seconds=draw.choice([None, draw.lognormvariate(8, 2)]),
        )
        for number, device in enumerate(snapshot.devices)
    )
    return replace(snapshot, holding=holding)


def _size(draw: random.Random, step: int) -> int:
    return draw.randint(8 * GIB // step, 76 * GIB // step) * step


def settled(snapshot: Snapshot) -> Snapshot:
    """The same when what could start has, and nobody else can: those who were stopped are gone."""
    while True:
        walk = Walk(snapshot, NOW)
        if not walk.starts and not walk.preemptions:
            return snapshot
        started, stopped = {start.job for start in walk.starts}, {each.job for each in walk.preemptions}
        waiting = tuple(job for job in snapshot.waiting if job.job not in started)
        holding = tuple(held for held in (*snapshot.holding, *walk.started) if held.job not in stopped)
        snapshot = replace(snapshot, waiting=waiting, holding=holding)


def again(snapshot: Snapshot, jobs: int) -> Snapshot:
    """The same with its waiting jobs repeated under other names until there are so many."""
    found = [
        replace(job, job=f"{job.job}.{turn}")
        for turn in range(-(-jobs // len(snapshot.waiting)))
        for job in snapshot.waiting
    ]
    return replace(snapshot, waiting=tuple(found[:jobs]))


def milliseconds(snapshot: Snapshot) -> float:
    """The fastest of a few cycles, in CPU time: others share the machine."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        plan(snapshot, NOW)
        taken.append(1000 * (time.process_time() - began))
    return min(taken)


def measure(hosts: int, jobs: int, limit: float) -> float:
    """Prints the cycles of one fleet; the milliseconds of the settled one."""
    draw = random.Random(hosts)  # noqa: S311 - the same fleet in each run
    name = f"{hosts:>5} x 8 x {jobs:>5}"
    empty = fleet(hosts, jobs, draw, GIB)
    line(f"{name}, empty", milliseconds(empty), "ms", "aim", limit)
    line(f"{name}, full", milliseconds(busy(empty, draw, GIB)), "ms", "aim", limit)
    odd = busy(fleet(hosts, jobs, draw, 1), draw, 1)
    line(f"{name}, full, all asks differ", milliseconds(odd), "ms", "aim", limit)
    calm = milliseconds(again(settled(odd), jobs))
    line(f"{name}, settled, all wait", calm, "ms", "aim", limit)
    return calm


def main() -> None:
    """Print the cycles, then the curve."""
    title("one planning cycle, ms of CPU: hosts x 8 GPUs x waiting jobs")
    curve = [(hosts, jobs, measure(hosts, jobs, limit)) for hosts, jobs, limit in FLEETS]
    title("the curve of the settled cycle, microseconds for each device and waiting job together")
    for hosts, jobs, taken in curve:
        line(f"{hosts:>5} x 8 x {jobs:>5}", 1000 * taken / (8 * hosts + jobs), "us")


if __name__ == "__main__":
    main()
