"""Whether a job is tried out before it trains. Pure.

A trial costs the loading of a model and a few updates, so by itself it is only worth it where the estimate may be far
off: of a model whose arithmetic nobody knows, and of which no run of this shape was measured.
"""

from __future__ import annotations

from ftd.inference import Inference
from ftd.job import Job
from ftd.records import Outcome
from ftd.spec import DeviceKind, Probe

# Estimates of known models stay below.
WIDE = 0.2


def wanted(job: Job) -> bool:
    """Whether the job's next attempt is to be a trial."""
    choice = job.spec.probe or Probe.AUTO
    if choice is Probe.NEVER or isinstance(job.resolved.stage, Inference) or _has_run(job):
        return False
    if choice is Probe.ALWAYS:
        return True
    on_gpu = job.resolved.resources.device is DeviceKind.GPU
    return on_gpu and job.estimate is not None and job.estimate.uncertainty > WIDE


def _has_run(job: Job) -> bool:
    """Whether an attempt with steps like the next one's has measured them: a trial to its end, or a training."""
    batch, compute = job.resolved.batch, job.resolved.compute
    shape = (batch.micro_batch or 0, bool(compute.gradient_checkpointing))
    return any(
        (attempt.outcome is Outcome.COMPLETED if attempt.probe else attempt.step_seconds > 0)
        and (attempt.micro_batch, attempt.gradient_checkpointing) == shape
        for attempt in job.attempts
    )
