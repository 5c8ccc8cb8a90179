"""What the host has besides devices, memory of its own and disk, and what jobs take of it.

A job is promised its estimate. What it has taken already is inside that promise, so it is added to what the system says
is free; else it would count twice. Everything here reads the system: call it in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ftd.devices.cpu import CpuInventory
from ftd.job import Job
from ftd.rundir import RunDirectory
from ftsched.model import Host, Needs

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# What a training fills: its checkpoints, and its output unless the spec wants that elsewhere.
_FILLED = ("checkpoints", "output")


def promised(job: Job) -> Needs:
    """What the job may take in all."""
    if job.estimate is None:
        return Needs()
    return Needs(memory_bytes=job.estimate.host_bytes, disk_bytes=job.estimate.disk_bytes)


def taken(run: RunDirectory, pids: Iterable[int]) -> Needs:
    """What the job has of the host now."""
    written = sum(_size(run.path / name) for name in _FILLED)
    return Needs(memory_bytes=sum(map(resident_bytes, pids)), disk_bytes=written)


def still_to_take(job: Job, has: Needs) -> Needs:
    """What a waiting job asks for, which may have left checkpoints on the disk."""
    whole = promised(job)
    return Needs(memory_bytes=whole.memory_bytes, disk_bytes=max(0, whole.disk_bytes - has.disk_bytes))


def at_least(whole: Needs, has: Needs) -> Needs:
    """What a running job holds: its promise, or what it has outgrown that with."""
    return Needs(
        memory_bytes=max(whole.memory_bytes, has.memory_bytes), disk_bytes=max(whole.disk_bytes, has.disk_bytes)
    )


def host(name: str, state_directory: Path, ours: Iterable[Needs]) -> Host:
    """The host with what is free and what jobs of ours have already. Raises DeviceError."""
    ours = list(ours)
    (cpu,) = CpuInventory().read()
    memory = cpu.total_bytes - cpu.used_bytes + sum(each.memory_bytes for each in ours)
    disk = shutil.disk_usage(state_directory).free + sum(each.disk_bytes for each in ours)
    return Host(name, Needs(memory_bytes=memory, disk_bytes=disk))


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _size(folder: Path) -> int:
    """Bytes of the files below; what is removed meanwhile has none."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 - many files, often
            except OSError:
                continue
    return total
