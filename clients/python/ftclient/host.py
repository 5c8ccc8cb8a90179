"""What the daemon answers about its host, as frozen records: the devices, the queue, the projects.

They mirror the public messages as those of `ftclient.results` do, with the same types. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ftclient.enums import DeviceKind
from ftclient.results import Duration, Forecast, Reason, Record


@dataclass(frozen=True, slots=True)
class DeviceUse(Record):
    """A job on a device, or (`job` is empty) a process that is not the daemon's."""

    job: str
    pid: int
    process_name: str
    used_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Device(Record):
    """A GPU, or the CPU with the host's memory (index -1).

    `unfit` says why nothing is started on it, empty if it is fit; a quarantine ends only when somebody releases it.
    `max_jobs` is how many jobs may be on it at once, 0: as many as its memory holds.
    """

    id: str
    kind: DeviceKind
    name: str
    index: int
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    uses: tuple[DeviceUse, ...]
    utilization_percent: int | None
    temperature_celsius: int | None
    power_watts: int | None
    unfit: str
    quarantined: bool
    max_jobs: int


@dataclass(frozen=True, slots=True)
class Host(Record):
    """The daemon's host."""

    hostname: str
    version: str
    start_time: datetime
    devices: tuple[Device, ...]
    state_directory: str
    state_free_bytes: int
    inventory: str
    jobs_by_state: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class QueuedJob(Record):
    """A job that waits, why, and when it will start as far as anybody can say."""

    job: str
    name: str
    project: str
    priority: int
    position: int
    queue_time: datetime
    reason: Reason | None
    waits_for: tuple[str, ...]
    devices: int
    bytes_per_device: int
    forecast: Forecast | None
    duration: Duration | None


@dataclass(frozen=True, slots=True)
class Quota(Record):
    """The most that the jobs of a project may hold at once; None: no limit."""

    devices: int | None
    memory_bytes: int | None
    running: int | None
    queued: int | None


@dataclass(frozen=True, slots=True)
class ProjectUse(Record):
    """What a project holds, waits for, has had, and may have.

    `usage` is decayed device-seconds, `usage_share` their share of those of all projects, 0 to 1.
    """

    project: str
    weight: float
    usage: float
    usage_share: float
    running_jobs: int
    queued_jobs: int
    devices: int
    memory_bytes: int
    quota: Quota | None
