"""What the scheduler sees and what it answers: frozen records of hosts, devices, jobs, the policy, and a plan.

Sizes are bytes, times are seconds since the epoch, durations are seconds. Service is device-seconds: the share of the
devices that a job holds, times how long. A snapshot is complete: `ftsched.plan` decides from it alone. Nothing here
decides, reads a clock or touches the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Literal

Kind = Literal["gpu", "cpu"]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A process that holds memory of a device and is not ours. `bytes` is 0 where the driver does not say."""

    pid: int
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or the CPU with the memory of its host.

    `used_bytes` is what the driver or the kernel says is in use now, by anybody. `foreign` explains a part of it; the
    rest is ours, or nobody's that we can name. `max_jobs` is the policy: 1 is exclusive, None shares as memory allows.
    """

    id: str
    host: str
    kind: Kind
    name: str
    index: int
    total_bytes: int
    used_bytes: int
    foreign: tuple[Foreign, ...] = ()
    max_jobs: int | None = None
    # Why nothing may be started on it; empty: it is fit.
    unfit: str = ""
    # It is gone, and what ran on it is over; `unfit` says more.
    lost: bool = False
    # How fast it talks to other devices of its host, by their id: higher is faster, 0 or absent is slowest.
    links: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """As people call it: "GPU 2", "the CPU"."""
        return f"GPU {self.index}" if self.kind == "gpu" else "the CPU"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job takes of its host beside devices, and what a host has of it. Zero asks for nothing."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class Host:
    """A host with devices. `capacity` is what all jobs of ours together may take of it."""

    id: str
    capacity: Needs


@dataclass(frozen=True, slots=True)
class Ask:
    """What a job needs to start: so many devices, so much memory on each; of `pinned` if that is given.

    The devices are of one host if any host has so many, else of whole hosts. `exclusive`: nobody else may be on them.
    `host` is taken once from each host that the job is on. `models` are the names of devices it may run on; none: any.
    """

    kind: Kind
    devices: int
    bytes_per_device: int
    pinned: tuple[str, ...] = ()
    exclusive: bool = False
    host: Needs = NOTHING
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that could start now.

    `queue_time` is when it first joined the queue; a preemption does not move it. `run_seconds` is how long it is still
    expected to run, None if nobody knows; `attained_seconds` is how long it has run so far in all its attempts.
    `front`: somebody moved it before all others of its priority.
    """

    job: str
    ask: Ask
    priority: int
    queue_time: float
    project: str = "default"
    run_seconds: float | None = None
    attained_seconds: float = 0.0
    front: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """A job that holds devices until its last process is gone.

    `ask` is what it was started with: its `bytes_per_device` are promised to it on each of its devices. `used_bytes` is
    what it uses there now by device id; a device that is missing counts as not used yet, so its whole promise is still
    kept free. `run_seconds` and `attained_seconds` are as of a waiting job, from now on. `start_time` is that of this
    attempt. `leaving`: it was asked to stop, and will be gone soon. A job that is not `preemptible` is never stopped
    for another one.
    """

    job: str
    devices: tuple[str, ...]
    ask: Ask
    used_bytes: Mapping[str, int] = field(default_factory=dict)
    project: str = "default"
    priority: int = 0
    start_time: float = 0.0
    run_seconds: float | None = None
    attained_seconds: float = 0.0
    preemptible: bool = True
    leaving: bool = False

    @property
    def reserved_bytes(self) -> int:
        """What is promised to it on each of its devices."""
        return self.ask.bytes_per_device


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that the jobs of one project hold at once; None: no limit. `queued` is for who takes jobs in."""

    devices: int | None = None
    memory_bytes: int | None = None
    running: int | None = None
    queued: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The knobs of the plan.

    `backfill`: what may pass the first job that does not fit: nothing, whatever fits, or what does not delay it.
    `preempt`: running jobs may be stopped for nobody, for a job of a higher priority, or also for a much shorter one.
    A job is left alone for its first `min_run_seconds`. One that has waited `aging_seconds`, or longer if it is a long
    one, is tried as if it were half as long. `weights` are the projects' shares, 1 where none is given. `placement`: a
    job that may share a device takes an idle one first, since trainings that share one slow each other, or goes where
    it leaves the fewest fragments.
    """

    placement: Literal["spread", "pack"] = "spread"
    backfill: Literal["none", "fill", "easy"] = "easy"
    preempt: Literal["off", "priority", "service"] = "priority"
    min_run_seconds: float = 600.0
    restart_seconds: float = 60.0
    aging_seconds: float = 7 * 86400.0
    weights: Mapping[str, float] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at one moment. Ids of hosts, devices and jobs are unique.

    A host that is not listed has enough of everything. `usage` is the decayed service of each project, what its running
    jobs were charged included.
    """

    devices: tuple[Device, ...]
    waiting: tuple[Waiting, ...] = ()
    holding: tuple[Holding, ...] = ()
    hosts: tuple[Host, ...] = ()
    usage: Mapping[str, float] = field(default_factory=dict)
    policy: Policy = Policy()


class WaitCode(StrEnum):
    """Why a job is not started; the names are those of the public ReasonCode."""

    BEHIND_OTHER_JOBS = auto()
    NOT_ENOUGH_FREE_MEMORY = auto()
    NOT_ENOUGH_FREE_DEVICES = auto()
    FOREIGN_PROCESS = auto()
    PINNED_DEVICES_BUSY = auto()
    DEVICE_MISSING = auto()
    DEVICE_UNFIT = auto()
    NOT_ENOUGH_HOST_MEMORY = auto()
    NOT_ENOUGH_DISK = auto()
    QUOTA_REACHED = auto()
    WAITING_FOR_PREEMPTION = auto()


@dataclass(frozen=True, slots=True)
class Start:
    """Start the job on all of these devices, now."""

    job: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preemption:
    """Stop the job, so that `for_job` can have its devices; it goes on later from a checkpoint."""

    job: str
    for_job: str
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job is not started: for machines, for people, and the jobs whose end would help it."""

    job: str
    code: WaitCode
    message: str
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Every waiting job of the snapshot is in `starts` or in `waits`, in the order the jobs were tried."""

    starts: tuple[Start, ...]
    waits: tuple[Wait, ...]
    preemptions: tuple[Preemption, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a waiting job is expected to start: if all goes faster than estimated, as estimated, and slower."""

    earliest: float
    expected: float
    latest: float
