"""How much there is to do for a job, and how long that takes: from arithmetic first, then from what was measured.

The best source that has something to say counts: the steps of this run, the last run of this job, earlier runs of the
same shape, and only then the arithmetic of the model over the speed of the devices. Evaluations and saving are not
counted. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ftd.job import Job
from ftd.online import Online
from ftd.records import DataReport, Duration, Progress
from ftd.spec import TrainingSpec
from ftd.validate.online import generations, iterations
from ftsched.pace import UNCERTAINTY

# Imports, loading the model, the first batch.
START_SECONDS = 30.0
_CHECKPOINT = "checkpoint-"


def total_steps(training: TrainingSpec, data: DataReport | None) -> int:
    """Updates of the whole training; 0 while nobody knows how much data there is. Packed rows are a close guess."""
    schedule, per_update = training.schedule, training.batch.global_batch or 1
    if schedule.max_steps is not None:
        return schedule.max_steps
    if data is None:
        return 0
    if isinstance(training.stage, Online):
        # The trainers leave out prompts that do not fill an update, and come back to each one's answers.
        updates = data.train.rows * generations(training.stage) // per_update * iterations(training.stage)
    else:
        updates = math.ceil(_sequences(training, data) / per_update)
    return math.ceil((schedule.epochs or 0.0) * max(1, updates))


def total_tokens(training: TrainingSpec, data: DataReport | None) -> int:
    """Tokens of the whole training; 0 as long as nobody knows."""
    return int(total_steps(training, data) * _tokens_per_update(training, data)) if data else 0


def remaining(
    job: Job, progress: Progress, measured: Sequence[float] = (), device_speed: float = 0.0
) -> Duration | None:
    """How long the job still runs once it has its devices; None where nobody can say.

    `measured` are seconds of an update in earlier runs of the same shape, `device_speed` the operations a second that a
    training reaches on one of its devices, 0 if that is not known.
    """
    if progress.eta_seconds is not None:
        return Duration(progress.eta_seconds, 0.1, "measured in this run")
    total = progress.total_steps or total_steps(job.resolved, job.data)
    left = total - _steps_kept(job)
    if left <= 0:
        return None
    if own := [a.step_seconds for a in job.attempts if a.step_seconds and a.micro_batch == _micro_batch(job)]:
        return Duration(START_SECONDS + left * own[-1], 0.15, "measured in its last run")
    if measured:
        runs = "1 earlier run" if len(measured) == 1 else f"{len(measured)} earlier runs"
        return Duration(START_SECONDS + left * median(measured), 0.25, f"measured in {runs} of this shape")
    operations = job.estimate.token_operations if job.estimate else 0.0
    if not operations or not device_speed:
        return None
    devices = job.resolved.resources.gpus or 1
    step = operations * _tokens_per_update(job.resolved, job.data) / (device_speed * devices)
    return Duration(START_SECONDS + left * step, UNCERTAINTY, "the arithmetic over the speed of the device")


def _sequences(training: TrainingSpec, data: DataReport) -> int:
    if training.data.packing and training.data.max_length:
        return math.ceil(data.train.tokens / training.data.max_length)
    return data.train.rows


def _tokens_per_update(training: TrainingSpec, data: DataReport | None) -> float:
    longest = training.data.max_length or 0
    per_sequence = data.train.tokens / max(1, _sequences(training, data)) if data else longest
    return (training.batch.global_batch or 1) * per_sequence


def _steps_kept(job: Job) -> int:
    name = job.checkpoint.removeprefix(_CHECKPOINT)
    return int(name) if name.isdecimal() else 0


def _micro_batch(job: Job) -> int:
    return job.resolved.batch.micro_batch or 0
