"""The attempts that run now: started or found again, followed, stopped when their job is stopping, reported when over.

One task per attempt, from its start to the event that says how it ended. It never decides what becomes of a job: it
tells the queue what happened, and does so until that is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from ftd import memory
from ftd.bootstrap import Exit
from ftd.doorbells import Doorbells
from ftd.errors import DiskFull, InvalidSpec
from ftd.experience import Experience
from ftd.intake import Intake
from ftd.job import Job
from ftd.launch import Handle, Launcher
from ftd.moves import Eased, Ended, Event, Prepared, Probed, Running
from ftd.queue import Queue
from ftd.records import Failure, FailureClass, JobState, Outcome
from ftd.relief import advice, can_relieve, kept, relieve
from ftd.rundir import RunDirectories
from ftd.supervise import follow, progress_of

# Between two tries to store what happened while the disk is full.
RETRY_SECONDS = 1.0
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Begin = Awaitable[Handle | Exit | None]


@dataclass(slots=True)
class _Running:
    """An attempt's task, and its processes as soon as there are any."""

    task: asyncio.Task[None]
    begun: asyncio.Event
    handle: Handle | None = None
    # Why it cannot go on, whatever its processes say.
    lost: Failure | None = None


class Attempts:
    """All attempts that run. `group` holds their tasks: cancelling it stops following, not the processes."""

    def __init__(
        self,
        queue: Queue,
        launcher: Launcher,
        runs: RunDirectories,
        doorbells: Doorbells,
        intake: Intake,
        experience: Experience,
        group: asyncio.TaskGroup,
    ) -> None:
        self._queue = queue
        self._launcher = launcher
        self._runs = runs
        self._doorbells = doorbells
        self._intake = intake
        self._experience = experience
        self._group = group
        self._running: dict[tuple[str, int], _Running] = {}
        self._on_over: list[Callable[[], None]] = []
        queue.listen(self._stop_if_stopping)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls back after each attempt that is over."""
        self._on_over.append(callback)

    def preparations(self) -> int:
        """How many preparations run."""
        return sum(number == 0 for _, number in self._running)

    def runs(self, job: Job) -> bool:
        """Whether the job's newest attempt runs, as far as this daemon knows."""
        return (job.id, len(job.attempts)) in self._running

    def pids(self, job: Job) -> tuple[int, ...]:
        """The processes of the job's newest attempt. Reads a file."""
        running = self._running.get((job.id, len(job.attempts)))
        return running.handle.pids if running and running.handle else ()

    def start(self, job: Job, devices: Sequence[str]) -> None:
        """Starts the job's newest attempt, or its preparation if there is none yet."""
        number = len(job.attempts)
        self._add(job, number, self._launcher.start(job, number, devices))

    def save(self, job: Job) -> bool:
        """Asks the job's newest attempt for a checkpoint; whether there was one to ask."""
        running = self._running.get((job.id, len(job.attempts)))
        if running is None or running.handle is None:
            return False
        running.handle.save()
        return True

    def lose(self, job: Job, failure: Failure) -> None:
        """Ends the job's newest attempt, since what it runs on is gone. May be repeated."""
        running = self._running.get((job.id, len(job.attempts)))
        if running is None or running.lost is not None:
            return
        running.lost = failure
        if running.handle is not None:
            self._group.create_task(running.handle.stop(save=False))

    async def recover(self, jobs: Sequence[Job], seconds: float) -> None:
        """Finds the attempts of these jobs again, all at once. What takes longer than `seconds` goes on behind."""
        begun = [self._add(job, len(job.attempts), self._launcher.reattach(job, len(job.attempts))) for job in jobs]
        if not begun:
            return
        waits = [asyncio.create_task(event.wait()) for event in begun]
        done, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()
        log.info("jobs found again", jobs=len(done), late=len(late))

    def _add(self, job: Job, number: int, begin: Begin) -> asyncio.Event:
        begun = asyncio.Event()
        task = self._group.create_task(self._run(job, number, begin), name=f"attempt {job.id}/{number}")
        self._running[job.id, number] = _Running(task, begun)
        return begun

    async def _run(self, job: Job, number: int, begin: Begin) -> None:
        running = self._running[job.id, number]
        try:
            begun = await _begin(begin)
            running.begun.set()
            if begun is None:
                await self._never_began(job.id, number)
                return
            if isinstance(begun, Exit):
                # It ended while no daemon followed it.
                self._queue.progressed(job.id, await progress_of(self._runs.get(job.id)))
                ended = begun
            else:
                ended = await self._follow(job.id, number, running, begun)
            if running.lost is not None and ended.outcome is not Outcome.COMPLETED:
                ended = replace(ended, outcome=Outcome.FAILED, failure=running.lost)
            await self._tell(job.id, await self._verdict(job, number, ended))
        finally:
            running.begun.set()
            del self._running[job.id, number]
            for callback in self._on_over:
                callback()

    async def _never_began(self, job_id: str, number: int) -> None:
        """The daemon died between the decision and the start: decide again. A preparation is started again anyway."""
        job = await self._queue.get(job_id)
        if number or job.state is JobState.STOPPING:
            await self._tell(job_id, Ended(Outcome.STOPPED))

    async def _follow(self, job_id: str, number: int, running: _Running, handle: Handle) -> Exit:
        running.handle = handle
        # A stop that was asked for before there was anything to stop.
        self._stop_if_stopping(await self._queue.get(job_id))
        if running.lost is not None:
            await handle.stop(save=False)

        async def on_started() -> None:
            # Not when it was found again: it has said its first word to an earlier daemon.
            if (await self._queue.get(job_id)).state is JobState.STARTING:
                await self._tell(job_id, Running())

        return await follow(
            self._runs.get(job_id),
            number,
            handle,
            self._doorbells,
            on_progress=lambda progress: self._queue.progressed(job_id, progress),
            on_started=on_started,
        )

    def _stop_if_stopping(self, job: Job) -> None:
        """Hears of every change of a job."""
        if job.state is not JobState.STOPPING:
            return
        running = self._running.get((job.id, len(job.attempts)))
        if running is None:
            # A preparation that waits for its turn.
            self._group.create_task(self._tell(job.id, Ended(Outcome.STOPPED)))
        elif running.handle is not None:
            keep = job.stop_goal is JobState.SUCCEEDED
            self._group.create_task(running.handle.stop(save=job.save_on_stop, keep=keep))

    async def _verdict(self, job: Job, number: int, ended: Exit) -> Event:
        """What the end of an attempt means for the job."""
        if number == 0 and ended.outcome is Outcome.COMPLETED:
            return await self._prepared(job, ended)
        checkpoint = ended.checkpoint
        if ended.outcome is Outcome.FAILED and not checkpoint and number:
            # A keeper that was killed could not say what its trainer had saved.
            checkpoint = await asyncio.to_thread(self._runs.get(job.id).latest_checkpoint)
        end = Ended(
            ended.outcome,
            ended.failure,
            checkpoint,
            ended.peak_memory_bytes,
            ended.step_seconds,
            ended.stopped_at,
            ended.stopped_of,
        )
        if not number:
            return end
        await self._experience.take(job, end, (await self._queue.progress(job)).tokens_per_second)
        if job.probing and end.outcome is Outcome.COMPLETED and job.estimate is not None:
            peak = memory.besides_context(job.resolved, end.peak_memory_bytes)
            return Probed(end, memory.by_trial(job.resolved, job.estimate, peak))
        # One that was to keep what it has learned is not tried again with less.
        keeps = (await self._queue.get(job.id)).stop_goal is JobState.SUCCEEDED
        if can_relieve(ended.failure, job.resolved.resources.device) and not keeps:
            return await self._relieved(job, end)
        return end

    async def _relieved(self, job: Job, ended: Ended) -> Event:
        """The same training with less memory, in the reservation that it has had; the end where nothing is left."""
        if ended.failure is None or job.estimate is None:
            return ended
        relief, length = relieve(job.resolved), job.estimate.sequence_length
        try:
            if relief is None:
                fixes = await asyncio.to_thread(self._intake.fixes, job.resolved, length)
                return replace(ended, failure=replace(ended.failure, advice=advice(fixes)))
            estimate = await asyncio.to_thread(self._intake.estimate, relief.resolved, length)
        except InvalidSpec:
            # The model is gone, so nothing could go on.
            return ended
        message = f"{ended.failure.message}; goes on with {relief.message}"
        return Eased(ended, relief.resolved, kept(estimate, job.attempts[-1]), message)

    async def _prepared(self, job: Job, ended: Exit) -> Event:
        if ended.report is None:
            failure = Failure(FailureClass.INTERNAL, "the preparation ended without a report")
            return Ended(Outcome.FAILED, failure)
        splits = (ended.report.train, ended.report.eval)
        longest = max(split.longest_row_tokens for split in splits if split is not None)
        # A job without rows may read as much as it says.
        longest = longest or job.resolved.data.max_length or 0
        try:
            estimate = await asyncio.to_thread(self._intake.estimate, job.resolved, longest)
        except InvalidSpec as error:
            return Ended(Outcome.FAILED, Failure(FailureClass.MODEL_LOAD, str(error)))
        return Prepared(ended.report, ended.prepared_directory, estimate, ended.lineage)

    async def _tell(self, job_id: str, event: Event) -> None:
        while True:
            try:
                await self._queue.apply(job_id, event)
            except DiskFull:
                log.warning("the disk is full: a job waits for its next state", job=job_id, next=type(event).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


async def _begin(begin: Begin) -> Handle | Exit | None:
    try:
        return await begin
    except DiskFull as error:
        return Exit(Outcome.FAILED, Failure(FailureClass.DISK_FULL, str(error), "free disk space, then retry the job"))
    except OSError as error:
        log.exception("an attempt could not be started")
        failure = Failure(FailureClass.INTERNAL, f"its processes could not be started: {error.strerror}")
        return Exit(Outcome.FAILED, failure)
