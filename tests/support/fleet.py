"""Small worlds for the scheduler, written in GiB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ftsched.model import Ask, Device, Foreign, Holding, Plan, Snapshot, Waiting
from ftsched.plan import plan

GIB = 2**30
NOW = 1_800_000_000.0


def gib(size: float) -> int:
    return int(size * GIB)


def gpu(
    index: int,
    *,
    total: float = 80,
    used: float | None = None,
    foreign: Sequence[tuple[int, str, float]] = (),
    jobs: int | None = None,
    host: str = "host",
) -> Device:
    """GPU-0, GPU-1, …; in use is what foreign processes hold unless `used` says otherwise. `jobs` limits sharing."""
    processes = tuple(Foreign(pid, name, gib(size)) for pid, name, size in foreign)
    return Device(
        id=f"GPU-{index}",
        host=host,
        kind="gpu",
        name="H100",
        index=index,
        total_bytes=gib(total),
        used_bytes=sum(p.bytes for p in processes) if used is None else gib(used),
        foreign=processes,
        max_jobs=jobs,
    )


def cpu(*, total: float = 16, used: float = 0, jobs: int | None = None) -> Device:
    return Device("cpu", "host", "cpu", "CPU", -1, gib(total), gib(used), max_jobs=jobs)


def job(
    name: str,
    size: float,
    *,
    devices: int = 1,
    pinned: Sequence[int] = (),
    priority: int = 0,
    age: float = 0,
    on: str = "gpu",
) -> Waiting:
    """A job that waits since `age` seconds for `size` GiB on each device."""
    pins = tuple(f"GPU-{index}" for index in pinned)
    ask = Ask("cpu" if on == "cpu" else "gpu", devices, gib(size), pins)
    return Waiting(name, ask, priority, NOW - age)


def holds(name: str, *indexes: int, size: float, used: Mapping[int, float] | None = None) -> Holding:
    """A job that runs on GPUs and was promised `size` GiB on each; `used` in GiB by GPU."""
    live = {f"GPU-{index}": gib(amount) for index, amount in (used or {}).items()}
    ask = Ask("gpu", len(indexes), gib(size))
    return Holding(name, tuple(f"GPU-{index}" for index in indexes), ask, live)


def decide(devices: Sequence[Device], waiting: Sequence[Waiting], holding: Sequence[Holding] = ()) -> Plan:
    return plan(Snapshot(tuple(devices), tuple(waiting), tuple(holding)), NOW)


def starts(decision: Plan) -> dict[str, tuple[str, ...]]:
    return {start.job: start.devices for start in decision.starts}
