"""What the scheduler sees and what it answers: frozen records of devices, waiting jobs, held devices and a plan.

Sizes are bytes, times are seconds since the epoch. A snapshot is complete: `ftsched.plan` decides from it alone.
Nothing here decides, reads a clock or touches the system.
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
    # For people to look at; no decision rests on them. None where unknown.
    utilization_percent: int | None = None
    temperature_celsius: int | None = None

    @property
    def label(self) -> str:
        """As people call it: "GPU 2", "the CPU"."""
        return f"GPU {self.index}" if self.kind == "gpu" else "the CPU"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a job needs to start: so many devices of one host, so much memory on each; of `pinned` if that is given."""

    kind: Kind
    devices: int
    bytes_per_device: int
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that could start now. A higher priority goes first, then the earlier `queue_time`."""

    job: str
    ask: Ask
    priority: int
    queue_time: float


@dataclass(frozen=True, slots=True)
class Holding:
    """A job that holds devices until its last process is gone.

    `reserved_bytes` is promised to it on each of its devices, `used_bytes` is what it uses there now by device id. A
    device that is missing there counts as not used yet, so its whole promise is still kept free.
    """

    job: str
    devices: tuple[str, ...]
    reserved_bytes: int
    used_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at one moment. Ids of devices and of jobs are unique."""

    devices: tuple[Device, ...]
    waiting: tuple[Waiting, ...] = ()
    holding: tuple[Holding, ...] = ()


class WaitCode(StrEnum):
    """Why a job is not started; the names are those of the public ReasonCode."""

    BEHIND_OTHER_JOBS = auto()
    NOT_ENOUGH_FREE_MEMORY = auto()
    NOT_ENOUGH_FREE_DEVICES = auto()
    FOREIGN_PROCESS = auto()
    PINNED_DEVICES_BUSY = auto()
    DEVICE_MISSING = auto()


@dataclass(frozen=True, slots=True)
class Start:
    """Start the job on all of these devices, now."""

    job: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job is not started: for machines, for people, and the jobs whose end would help it."""

    job: str
    code: WaitCode
    message: str
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Every waiting job of the snapshot is in exactly one of the two, in the order the jobs were tried."""

    starts: tuple[Start, ...]
    waits: tuple[Wait, ...]
