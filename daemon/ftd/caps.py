"""The hard bounds an attempt runs under, told from its promise: a wrong estimate ends its own job alone. Pure.

On a GPU the bound is on what torch's allocator may take, so what a process holds besides tensors is taken off; the host
is bounded by what its kernel counts.
"""

from __future__ import annotations

from typing import NamedTuple

from ftd.job import Job
from ftd.spec import DeviceKind
from ftsched.estimate import GPU_CONTEXT, GPU_CONTEXT_SEVERAL


class Caps(NamedTuple):
    """Bytes on each device for torch, and on the host for all processes of the attempt together; 0: no bound."""

    device_bytes: int = 0
    host_bytes: int = 0


def caps(job: Job) -> Caps:
    """The bounds of the job's newest attempt; a preparation has none, since nothing was promised to it."""
    if not job.attempts:
        return Caps()
    attempt = job.attempts[-1]
    if job.resolved.resources.device is not DeviceKind.GPU:
        return Caps(host_bytes=attempt.reserved_bytes)
    context = GPU_CONTEXT if len(attempt.devices) == 1 else GPU_CONTEXT_SEVERAL
    # A promise smaller than a context is one that the spec made; it can hold nothing, and says so when it is tried.
    return Caps(max(1, attempt.reserved_bytes - context), job.estimate.host_bytes if job.estimate else 0)
