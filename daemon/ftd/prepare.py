"""The line before the queue: starts the preparations of submitted jobs, so many at once, the oldest first.

Preparations use the CPU and hold no device, so they wait for each other, and for the jobs whose weights theirs begins
with: a tokenizer comes with them.
"""

from __future__ import annotations

import asyncio

from ftd.attempts import Attempts
from ftd.eligible import may_prepare, taken_from
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.queue import Queue
from ftd.records import JobState


class Preparer:
    """Starts preparations."""

    def __init__(self, queue: Queue, attempts: Attempts, at_once: int) -> None:
        self._queue = queue
        self._attempts = attempts
        self._at_once = at_once
        self._wake = asyncio.Event()
        queue.listen(self._heard)
        attempts.when_over(self._wake.set)

    async def run(self) -> None:
        """Prepares for ever."""
        while True:
            await self._start()
            await self._wake.wait()
            self._wake.clear()

    def _heard(self, job: Job) -> None:
        if job.state is JobState.PREPARING or job.state in TERMINAL:
            self._wake.set()

    async def _start(self) -> None:
        before = await self._queue.before({id_ for job in self._waiting() for id_ in taken_from(job)})
        # Asked again: a job may have been stopped meanwhile.
        ready = [job for job in self._waiting() if may_prepare(job, before)]
        for job in ready[: max(0, self._at_once - self._attempts.preparations())]:
            self._attempts.start(job, ("cpu",))

    def _waiting(self) -> list[Job]:
        return [job for job in self._queue.active() if job.state is JobState.PREPARING and not self._attempts.runs(job)]
