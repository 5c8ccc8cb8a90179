"""The hub: every job that has not ended, and the only way to change one.

A change is made under the job's lock: the state machine says what becomes of it, the store puts that on disk, and only
then it is true here and the listeners hear of it. The queue starts and stops nothing; who does, listens.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from ftd import job as life
from ftd.changes import Changes
from ftd.eligible import Before
from ftd.errors import (
    IllegalMove,
    InvalidRequest,
    InvalidSpec,
    JobAmbiguous,
    JobFinished,
    JobNeeded,
    JobNotFound,
    TooMuch,
    WrongState,
)
from ftd.job import Job
from ftd.ledger import Ledger
from ftd.limits import broken_limits
from ftd.moves import (
    LIVE,
    TABLE,
    TERMINAL,
    CancelRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    RetryRequested,
    StopRequested,
)
from ftd.records import JobState, Progress
from ftd.rundir import RunDirectories
from ftd.spec import JobSpec
from ftd.store import Filter, Store, Stored
from ftd.uploaded import note_uses
from ftsched.model import Quota

T = TypeVar("T")
# Called after every stored change; must be quick and must not raise.
Listener = Callable[[Job], None]
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Queue:
    """All jobs; those that have ended are read from the store when somebody asks."""

    def __init__(
        self,
        store: Store,
        runs: RunDirectories,
        ledger: Ledger,
        changes: Changes,
        active_jobs: int,
        quotas: Mapping[str, Quota],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self.runs = runs
        self._ledger = ledger
        self.changes = changes
        self._most = active_jobs
        self._quotas = quotas
        self._clock = clock
        # The jobs that have not ended, exactly as they are on disk, and how far they are.
        self._jobs: dict[str, Job] = {}
        self._progress: dict[str, Progress] = {}
        # One lock for each job that is being changed just now.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Jobs of each project that are on their way to the disk.
        self._submitting: Counter[str] = Counter()
        self._listeners: list[Listener] = []
        self._changes: set[asyncio.Task[Any]] = set()

    def listen(self, listener: Listener) -> None:
        """Calls `listener` with each job that was added or changed, from now on."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Reads the jobs that have not ended. Call it once, first."""
        for stored in await self._store.active():
            self._jobs[stored.job.id] = stored.job
            self._progress[stored.job.id] = stored.progress

    async def close(self) -> None:
        """Waits for the changes under way."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    # Reading

    def active(self) -> list[Job]:
        """The jobs that have not ended, the oldest first."""
        return list(self._jobs.values())

    async def get(self, job_id: str) -> Job:
        """The job with this id. Raises JobNotFound."""
        return self._jobs.get(job_id) or (await self._stored(job_id)).job

    async def find(self, text: str) -> Job:
        """The job that has this id, id prefix or name. Raises InvalidRequest, JobNotFound, JobAmbiguous."""
        if not text:
            raise InvalidRequest("job is missing; give an id, a prefix of one, or a name")
        ids = await self._store.matching(text)
        if len(ids) > 1:
            raise JobAmbiguous(text, ids)
        if not ids:
            raise JobNotFound(text)
        return await self.get(ids[0])

    async def progress(self, job: Job) -> Progress:
        """How far the job is; when it has ended, how far it came."""
        known = self._progress.get(job.id)
        return (await self._stored(job.id)).progress if known is None else known

    def progress_now(self, job_id: str) -> Progress:
        """How far a job is that has not ended; nothing of any other."""
        return self._progress.get(job_id, Progress())

    async def before(self, ids: Iterable[str]) -> dict[str, Before]:
        """Those of the jobs that there are, as who comes after them sees them."""
        wanted = frozenset(ids)
        known = {key: Before(job.name, job.state) for key in wanted if (job := self._jobs.get(key))}
        ended = await self._store.before(sorted(wanted - known.keys())) if wanted - known.keys() else {}
        return ended | known

    async def list(self, chosen: Filter, size: int, page_token: str = "") -> tuple[list[Job], str]:
        """A page of jobs, the newest first, and the token of the next one. Raises InvalidRequest."""
        found = await self._store.page(chosen, size + 1, _read_token(page_token, chosen))
        jobs = [stored.job for stored in found[:size]]
        return jobs, _token(found[size - 1].number, chosen) if len(found) > size else ""

    # Submitting

    async def submitted(self, request_id: str, spec: JobSpec) -> Job | None:
        """The job this request made before. Raises RequestIdReused if it asked for something else then."""
        known = await self._store.submitted(request_id, spec) if request_id else None
        return await self.get(known.id) if known else None

    async def submit(self, job: Job) -> Job:
        """Stores a new job, or answers with the one its request made. Raises TooMuch, RequestIdReused, DiskFull."""
        if len(self._jobs) >= self._most:
            raise TooMuch(f"{self._most} jobs have not ended, which is this daemon's limit; cancel some, or wait")
        with self._counted(job.project):
            return await self._whole(self._submit(job))

    @contextmanager
    def _counted(self, project: str) -> Iterator[None]:
        """Holds a place in the project's quota for a job that is on its way to the disk. Raises TooMuch."""
        quota = self._quotas.get(project, Quota())
        stored = sum(job.project == project for job in self._jobs.values())
        if quota.queued is not None and stored + self._submitting[project] >= quota.queued:
            raise TooMuch(
                f"{quota.queued} jobs of project {project} have not ended, which is its quota; cancel some, or wait"
            )
        self._submitting[project] += 1
        try:
            yield
        finally:
            self._submitting[project] -= 1

    async def _submit(self, job: Job) -> Job:
        # The directory first: an acknowledged job has one, empty until it is started. What a crash in between leaves
        # behind has never run.
        try:
            await asyncio.to_thread(self.runs.reserve, job.id)
            stored = await self._store.insert(job, *self.changes.of(None, job))
        except BaseException:
            await asyncio.to_thread(self.runs.delete, job.id)
            raise
        if stored.id != job.id:
            await asyncio.to_thread(self.runs.delete, job.id)
            return await self.get(stored.id)
        self._publish(job, Progress())
        log.info("job submitted", job=job.id, name=job.name)
        return job

    # Changing

    async def apply(self, job_id: str, event: Event, actor: str = "daemon") -> Job:
        """The job after `event`. Raises JobNotFound, IllegalMove, DiskFull."""

        def move(job: Job) -> Job:
            return life.apply(job, event, self._clock(), actor)

        return await self._change(job_id, move)

    async def cancel(self, text: str, actor: str, *, save: bool = False) -> Job:
        """Ends a job. Raises JobFinished."""
        return await self._ask(text, CancelRequested(save), "cancel", actor)

    async def pause(self, text: str, actor: str) -> Job:
        """Holds a job. Raises WrongState."""
        return await self._ask(text, PauseRequested(), "pause", actor)

    async def hold(self, text: str, actor: str) -> Job:
        """Holds a job that no process runs of. Raises WrongState."""
        job = await self.find(text)
        if job.state in LIVE and job.state is not JobState.PREPARING:
            raise WrongState(job.id, job.state, "hold", "preparing or queued")
        return await self._ask(job.id, PauseRequested(), "hold", actor)

    async def stop(self, text: str, actor: str) -> Job:
        """Ends a job that trains, and keeps what it has learned. Raises WrongState."""
        return await self._ask((await self.training(text, "stop")).id, StopRequested(), "stop", actor)

    async def training(self, text: str, verb: str) -> Job:
        """The job, which trains. Raises WrongState."""
        job = await self.find(text)
        if job.state is not JobState.RUNNING or job.probing:
            state = "being tried out" if job.probing and job.state is JobState.RUNNING else str(job.state)
            raise WrongState(job.id, state, verb, "running")
        return job

    async def resume(self, text: str, actor: str) -> Job:
        """Queues a paused job. Raises WrongState."""
        return await self._ask(text, ResumeRequested(), "resume", actor)

    async def retry(self, text: str, actor: str) -> Job:
        """Queues a failed or cancelled job. Raises WrongState, InvalidSpec if a data set that it is to read is gone."""
        return await self._ask(text, RetryRequested(), "retry", actor)

    async def _ask(self, text: str, event: Event, verb: str, actor: str) -> Job:
        job_id = (await self.find(text)).id

        def move(job: Job) -> Job:
            try:
                return life.apply(job, event, self._clock(), actor)
            except IllegalMove:
                raise _refusal(job, event, verb) from None

        return await self._change(job_id, move)

    async def update(self, text: str, edit: Callable[[Job], Job]) -> Job:
        """Stores what `edit` makes of a job's priority, place, labels and annotations. Raises InvalidSpec."""
        job_id = (await self.find(text)).id

        def changed(job: Job) -> Job:
            after = edit(job)
            spec = JobSpec(priority=after.priority, labels=after.labels, annotations=after.annotations)
            if problems := list(broken_limits(spec)):
                raise InvalidSpec(problems)
            return replace(after, update_time=self._clock(), revision=job.revision + 1)

        return await self._change(job_id, changed)

    async def delete(self, text: str) -> None:
        """Forgets a job that has ended, and removes its run directory. Raises WrongState."""
        await self._whole(self._delete((await self.find(text)).id))

    async def _delete(self, job_id: str) -> None:
        async with self._locks.setdefault(job_id, asyncio.Lock()):
            job = await self.get(job_id)
            if job.state not in TERMINAL:
                raise WrongState(job_id, job.state, "delete", "succeeded, failed or cancelled")
            if after := [other.id for other in self._jobs.values() if job_id in {d.job for d in other.dependencies}]:
                raise JobNeeded(job_id, after)
            # In this order: a crash in between leaves a job without files, which can be deleted again.
            await asyncio.to_thread(self.runs.delete, job_id)
            await self._store.delete(job_id, self.changes.of_deleted(job, self._clock()))
        self.changes.ring()
        log.info("job deleted", job=job_id)

    def progressed(self, job_id: str, progress: Progress) -> None:
        """What the journal says of a job that runs. Not stored: the next change stores it with the job."""
        if job_id in self._jobs:
            self._progress[job_id] = progress

    async def _change(self, job_id: str, move: Callable[[Job], Job]) -> Job:
        return await self._whole(self._changed(job_id, move))

    async def _changed(self, job_id: str, move: Callable[[Job], Job]) -> Job:
        async with self._locks.setdefault(job_id, asyncio.Lock()):
            before = await self.get(job_id)
            progress = await self.progress(before)
            after = move(before)
            if after is before:
                return before
            charge = self._ledger.charge(before, after)
            booked = [partial(self._ledger.book, charge=charge)] if charge else []
            # Its data may have been deleted after it had ended.
            reads = before.state in TERMINAL and after.state is JobState.PREPARING
            used = [partial(note_uses, job=after)] if reads else []
            await self._store.update(after, progress, *booked, *used, *self.changes.of(before, after))
            self._publish(after, self._progress.get(job_id, progress))
        if after.state is not before.state:
            log.info("job moved", job=job_id, state=str(after.state), reason=after.reason.message)
        return after

    def _publish(self, job: Job, progress: Progress) -> None:
        if job.state in TERMINAL:
            self._jobs.pop(job.id, None)
            self._progress.pop(job.id, None)
        else:
            self._jobs[job.id] = job
            self._progress[job.id] = progress
        self.changes.ring()
        for listener in self._listeners:
            listener(job)

    async def _stored(self, job_id: str) -> Stored:
        stored = await self._store.get(job_id)
        if stored is None:
            raise JobNotFound(job_id)
        return stored

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """Runs a change to its end even if its caller goes away: the disk and the memory must say the same."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)


def _refusal(job: Job, event: Event, verb: str) -> JobFinished | WrongState:
    """Why a client's wish cannot be: what the job would have to be for it is in the table of moves."""
    if isinstance(event, CancelRequested):
        return JobFinished(job.id, job.state)
    accepted = [str(state) for state, kind in TABLE if kind is type(event)]
    return WrongState(job.id, job.state, verb, " or ".join(accepted))


def _token(number: int, chosen: Filter) -> str:
    """Where a page ended, bound to what was listed."""
    return f"{number}-{_digest(chosen)}"


def _read_token(token: str, chosen: Filter) -> int | None:
    number, _, digest = token.partition("-")
    if not token:
        return None
    if digest != _digest(chosen) or not number.isascii() or not number.isdecimal():
        raise InvalidRequest("page_token is not one of this list; give the same filter as for the page before")
    return int(number)


def _digest(chosen: Filter) -> str:
    parts = (sorted(chosen.states), sorted(chosen.labels.items()), chosen.project, chosen.external_id, chosen.selector)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
