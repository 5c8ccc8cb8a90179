"""Following jobs: one until it ends, one until it is where somebody waits for it, all of them from a cursor.

Nobody polls the store: a bell rings when a job's files or its state have changed. Each open call counts as a stream.
Converts and waits; what a job is, the queue says, and what has changed, `ftd.changes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

from finetuned.v1 import job_changes_pb2, job_pb2, job_service_pb2
from ftd import selectors, wire
from ftd.doorbells import Doorbells
from ftd.errors import InvalidRequest
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.queue import Queue
from ftd.records import JobState, Progress
from ftd.rundir import RunDirectories
from ftd.service.metrics import HEARTBEAT_SECONDS, StreamLimit
from ftd.spec import JobSpec

# A job that trains changes all the time; its watchers hear of it this often.
WATCH_SECONDS = 1.0
# At most so many changes a message.
CHANGES = 256
WAIT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 600.0

Goal = Callable[[Job, Progress], bool]


class Following:
    """The calls of JobService that stay open."""

    def __init__(self, queue: Queue, runs: RunDirectories, doorbells: Doorbells, streams: StreamLimit) -> None:
        self._queue = queue
        self._runs = runs
        self._doorbells = doorbells
        self._streams = streams

    async def watch(self, request: job_service_pb2.WatchJobRequest) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """The job now, then after each change, until it has ended."""
        job = await self._queue.find(request.job)
        shown: tuple[Job, Progress] | None = None
        with self._streams.one(), self._doorbells.bell(self._runs.get(job.id).path) as bell:
            while True:
                progress = await self._queue.progress(job)
                if shown is None or _moved(shown, job, progress):
                    yield job_service_pb2.WatchJobResponse(job=self._news(job, progress, first=shown is None))
                    shown = job, progress
                if job.state in TERMINAL:
                    return
                await bell.wait()
                if (await self._queue.get(job.id)).revision == job.revision:
                    await asyncio.sleep(WATCH_SECONDS)
                job = await self._queue.get(job.id)

    async def wait(self, request: job_changes_pb2.WaitJobRequest) -> job_changes_pb2.WaitJobResponse:
        """The job once it is where the request wants it, has ended, or the time is over."""
        reached, seconds = _goal(request), _seconds(request)
        job = await self._queue.find(request.job)
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        with self._streams.one(), self._doorbells.bell(self._runs.get(job.id).path) as bell:
            while True:
                progress = await self._queue.progress(job)
                there = reached(job, progress)
                if there or job.state in TERMINAL or clock() >= until:
                    shown = wire.job_to_proto(job, progress, str(self._runs.get(job.id).path), full=True)
                    return job_changes_pb2.WaitJobResponse(job=shown, reached=there)
                await bell.wait(until - clock())
                job = await self._queue.get(job.id)

    async def watch_all(
        self, request: job_changes_pb2.WatchJobsRequest
    ) -> AsyncIterator[job_changes_pb2.WatchJobsResponse]:
        """The changes after the cursor, then those to come."""
        wanted, changes = _wanted(request), self._queue.changes
        if request.only_new and request.cursor:
            raise InvalidRequest("cursor and only_new exclude each other: give one of them")
        cursor = await changes.now() if request.only_new else request.cursor
        clock = asyncio.get_running_loop().time
        spoke, said_up_to_date = clock(), False
        with self._streams.one():
            while True:
                news = changes.news()
                page = await changes.after(cursor, CHANGES)
                cursor, up_to_date = page.cursor, not page.more
                chosen = [change for change in page.changes if wanted(change)]
                first = up_to_date and not said_up_to_date
                if chosen or first or clock() - spoke >= HEARTBEAT_SECONDS:
                    yield job_changes_pb2.WatchJobsResponse(changes=chosen, cursor=cursor, up_to_date=up_to_date)
                    spoke, said_up_to_date = clock(), said_up_to_date or up_to_date
                if up_to_date and request.no_follow:
                    return
                if up_to_date:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_SECONDS):
                            await news.wait()

    def _news(self, job: Job, progress: Progress, *, first: bool) -> job_pb2.Job:
        """Later messages leave out what does not change or only grows."""
        if not first:
            job = replace(job, spec=JobSpec())
        message = wire.job_to_proto(job, progress, str(self._runs.get(job.id).path), full=first)
        if not first:
            message.ClearField("spec")
        return message


def read_state(number: int) -> JobState:
    """The state that a request names. Raises InvalidRequest."""
    value = job_pb2.JobState.DESCRIPTOR.values_by_number.get(number)
    try:
        return JobState(value.name.removeprefix("JOB_STATE_").lower() if value else "")
    except ValueError:
        raise InvalidRequest(f"states has {number}, which is no job state this daemon knows") from None


def _moved(shown: tuple[Job, Progress], job: Job, progress: Progress) -> bool:
    return shown[0].revision != job.revision or shown[1] != progress


def _goal(request: job_changes_pb2.WaitJobRequest) -> Goal:
    """What is waited for; without a wish the end."""
    states = frozenset(map(read_state, request.states))
    step = request.step if request.HasField("step") else None
    revision = request.after_revision if request.HasField("after_revision") else None
    if not states and step is None and revision is None:
        states = TERMINAL

    def reached(job: Job, progress: Progress) -> bool:
        made = step is not None and progress.step >= step
        return job.state in states or made or (revision is not None and job.revision > revision)

    return reached


def _seconds(request: job_changes_pb2.WaitJobRequest) -> float:
    seconds = request.timeout_seconds if request.HasField("timeout_seconds") else WAIT_SECONDS
    if not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        raise InvalidRequest(f"timeout_seconds is {seconds:g}; 0 to {LONGEST_WAIT_SECONDS:g}")
    return seconds


def _wanted(request: job_changes_pb2.WatchJobsRequest) -> Callable[[job_changes_pb2.JobChange], bool]:
    """Whether a change was asked for."""
    selector = selectors.parse(request.selector)
    for number in request.states:
        read_state(number)
    states = frozenset(request.states)

    def wanted(change: job_changes_pb2.JobChange) -> bool:
        if request.project not in ("", change.project) or not selectors.fits(selector, change.labels):
            return False
        return not states or (change.HasField("transition") and change.transition.to_state in states)

    return wanted
