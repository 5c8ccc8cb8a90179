"""What one planning cycle costs, from one host to a thousand: the daemon plans at every change of the queue.

Jobs ask for 1, 2, 4 or 8 devices and whole GiB; half of their lengths are unknown. Each fleet is planned three times:
empty, full with a different mix on each host, and full with nobody asking for the same.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from statistics import median

from tests.bench.table import line, title

from ftsched.model import Ask, Device, Holding, Snapshot, Waiting
from ftsched.plan import plan

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


def milliseconds(snapshot: Snapshot) -> float:
    """The median of a few cycles."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        plan(snapshot, NOW)
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken)


def main() -> None:
    """Print the curve."""
    title("one planning cycle, ms: hosts x 8 GPUs x waiting jobs")
    for hosts, jobs, limit in FLEETS:
        draw = random.Random(hosts)  # noqa: S311 - the same fleet in each run
        name = f"{hosts:>5} x 8 x {jobs:>5}"
        empty = fleet(hosts, jobs, draw, GIB)
        line(f"{name}, empty", milliseconds(empty), "ms", "limit", limit)
        line(f"{name}, full", milliseconds(busy(empty, draw, GIB)), "ms", "limit", limit)
        odd = busy(fleet(hosts, jobs, draw, 1), draw, 1)
        line(f"{name}, full, all asks differ", milliseconds(odd), "ms", "limit", limit)


if __name__ == "__main__":
    main()
