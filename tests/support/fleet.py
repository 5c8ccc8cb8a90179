"""Small worlds for the scheduler, written in GiB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ftsched.model import Ask, Device, Foreign, Holding, Host, Needs, Plan, Policy, Snapshot, Wait, Waiting
from ftsched.plan import plan

GIB = 2**30
NOW = 1_800_000_000.0
NOTHING = Needs()
USUAL = Policy()


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
    unfit: str = "",
    links: Mapping[int, int] | None = None,
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
        unfit=unfit,
        links={f"GPU-{other}": speed for other, speed in (links or {}).items()},
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
    run: float | None = None,
    ran: float = 0,
    project: str = "default",
    front: bool = False,
    exclusive: bool = False,
    host: Needs = NOTHING,
    models: Sequence[str] = (),
) -> Waiting:
    """A job that waits since `age` seconds for `size` GiB on each device, will run for `run` and `ran` already."""
    pins = tuple(f"GPU-{index}" for index in pinned)
    ask = Ask("cpu" if on == "cpu" else "gpu", devices, gib(size), pins, exclusive, host, tuple(models))
    return Waiting(name, ask, priority, NOW - age, project, run, ran, front)


def holds(
    name: str,
    *indexes: int,
    size: float,
    used: Mapping[int, float] | None = None,
    run: float | None = None,
    ran: float = 3600,
    priority: int = 0,
    project: str = "default",
    exclusive: bool = False,
    leaving: bool = False,
    preemptible: bool = True,
    host: Needs = NOTHING,
) -> Holding:
    """A job that runs on GPUs and was promised `size` GiB on each, since `ran` seconds; `used` in GiB by GPU."""
    return Holding(
        job=name,
        devices=tuple(f"GPU-{index}" for index in indexes),
        ask=Ask("gpu", len(indexes), gib(size), exclusive=exclusive, host=host),
        used_bytes={f"GPU-{index}": gib(amount) for index, amount in (used or {}).items()},
        project=project,
        priority=priority,
        start_time=NOW - ran,
        run_seconds=run,
        attained_seconds=ran,
        preemptible=preemptible,
        leaving=leaving,
    )


def decide(
    devices: Sequence[Device],
    waiting: Sequence[Waiting],
    holding: Sequence[Holding] = (),
    *,
    policy: Policy = USUAL,
    usage: Mapping[str, float] | None = None,
    hosts: Sequence[Host] = (),
) -> Plan:
    return plan(Snapshot(tuple(devices), tuple(waiting), tuple(holding), tuple(hosts), usage or {}, policy), NOW)


def order(decision: Plan) -> list[str]:
    """The jobs in the order they were tried, if none of them started."""
    assert not decision.starts
    return [wait.job for wait in decision.waits]


def reasons(decision: Plan) -> dict[str, Wait]:
    return {wait.job: wait for wait in decision.waits}


def starts(decision: Plan) -> dict[str, tuple[str, ...]]:
    return {start.job: start.devices for start in decision.starts}
