"""What the attempts of this host teach: takes down what each one measured, and tells what is known of a job's like.

It must never hold up the end of an attempt: what cannot be taken down is lost, with a word in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from ftd import memory
from ftd.devices import DeviceError, Inventory
from ftd.errors import DiskFull
from ftd.intake import Intake
from ftd.job import Job
from ftd.measured import Measurement, Measurements
from ftd.moves import Ended
from ftd.records import FailureClass

_OUT_OF_MEMORY = (FailureClass.OUT_OF_GPU_MEMORY, FailureClass.OUT_OF_HOST_MEMORY)
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Experience:
    """Measurements by the jobs they belong to."""

    def __init__(
        self,
        intake: Intake,
        measurements: Measurements,
        inventory: Inventory,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._intake = intake
        self._measurements = measurements
        self._inventory = inventory
        self._clock = clock

    async def take(self, job: Job, ended: Ended, tokens_per_second: float) -> None:
        """Takes down what the job's newest attempt measured, if it came far enough to measure anything."""
        failure = ended.failure
        out_of_memory = failure is not None and failure.failure_class in _OUT_OF_MEMORY
        if not ended.peak_memory_bytes or not (ended.step_seconds or out_of_memory) or job.estimate is None:
            return
        found = await asyncio.to_thread(self._intake.subject, job.resolved, job.estimate.sequence_length)
        if found is None:
            return
        subject, estimated = found
        measured = Measurement(
            subject,
            estimated_bytes=estimated,
            peak_bytes=memory.besides_context(job.resolved, ended.peak_memory_bytes),
            out_of_memory=out_of_memory,
            step_seconds=ended.step_seconds,
            tokens_per_second=tokens_per_second,
            device=await asyncio.to_thread(self._device, job.attempts[-1].devices),
            time=self._clock(),
        )
        try:
            await self._measurements.add(measured)
        except DiskFull:
            log.warning("the disk is full: what an attempt measured is lost", job=job.id)

    async def history(self, job: Job) -> tuple[Measurement, ...]:
        """Runs of the same model, method and shape as the job's, the oldest first."""
        if job.estimate is None:
            return ()
        return await asyncio.to_thread(self._intake.history, job.resolved, job.estimate.sequence_length)

    def _device(self, ids: tuple[str, ...]) -> str:
        """Name of the model of the devices; empty if they cannot be read any more."""
        try:
            names = {device.id: device.name for device in self._inventory.read()}
        except DeviceError:
            return ""
        return next((names[each] for each in ids if each in names), "")
