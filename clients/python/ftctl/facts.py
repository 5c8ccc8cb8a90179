"""What follows from a job's record and more than one screen says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftclient import Job


def peak(job: Job) -> int:
    """The peak of the newest attempt that measured one, in bytes; 0 if none did. Older ones may have run with more."""
    if job.progress and job.progress.peak_memory_bytes:
        return job.progress.peak_memory_bytes
    return next((each.peak_memory_bytes for each in reversed(job.attempts) if each.peak_memory_bytes), 0)


def on_cpu(job: Job) -> bool:
    """Whether what it measured is the memory of processes and not of a GPU."""
    return any("cpu" in attempt.devices for attempt in job.attempts)
