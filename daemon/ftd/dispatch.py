"""Who starts next: one cycle, in numbered steps, over a snapshot of the jobs and the devices.

    1 wait for a wake-up   2 snapshot   3 plan   4 commit the plan   5 start   6 record why the others wait

The decision itself is `ftsched.plan`'s, which is pure; here are only its two ends, the world as it is and what is done
about it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from ftd.attempts import Attempts
from ftd.devices import DeviceError, Inventory
from ftd.errors import DevicesUnreadable, DiskFull, IllegalMove, JobNotFound
from ftd.intake import Accepted
from ftd.job import Job
from ftd.moves import Event, Placed, Waits
from ftd.queue import Queue
from ftd.records import JobState, MemoryEstimate, Reason, ReasonCode
from ftd.spec import DeviceKind, TrainingSpec
from ftsched.model import Ask, Device, Holding, Kind, Plan, Snapshot, Waiting
from ftsched.plan import plan

# Memory that others give back makes no noise: while jobs wait, the devices are looked at this often.
LOOK_SECONDS = 5.0
# Id of a job that does not exist, in a rehearsal. No real id has this form.
REHEARSED = "-"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """How far devices are shared: jobs at once on a GPU (None: as far as memory goes) and on the CPU."""

    jobs_per_gpu: int | None
    jobs_on_cpu: int

    def of(self, device: Device) -> Device:
        """The device with the policy that applies to it."""
        return replace(device, max_jobs=self.jobs_per_gpu if device.kind == "gpu" else self.jobs_on_cpu)


@dataclass(frozen=True, slots=True)
class Trial:
    """Where a job would start now, or why it would wait."""

    devices: tuple[str, ...] = ()
    reason: Reason | None = None


class Dispatcher:
    """Starts waiting jobs on devices."""

    def __init__(
        self,
        queue: Queue,
        attempts: Attempts,
        inventory: Inventory,
        policy: DevicePolicy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._attempts = attempts
        self._inventory = inventory
        self._policy = policy
        self._clock = clock
        self._wake = asyncio.Event()
        # Jobs that are being told why they wait; that wakes nobody, or the cycle would never rest.
        self._told: frozenset[str] = frozenset()
        queue.listen(self._heard)

    @property
    def inventory_source(self) -> str:
        """Where the devices are read from, and why there."""
        return self._inventory.source

    async def run(self) -> None:
        """Dispatches for ever."""
        while True:
            await self._wait()  # 1
            if not self._queued():
                continue
            try:
                snapshot = await self.snapshot()  # 2
            except DevicesUnreadable:
                continue
            decision = await asyncio.to_thread(plan, snapshot, self._clock())  # 3
            started = await self._commit(decision)  # 4
            for job in started:  # 5
                await self._start(job)
            await self._explain(decision)  # 6

    async def devices(self) -> tuple[Device, ...]:
        """The devices as they are now, every process on them a foreign one. Raises DevicesUnreadable."""
        try:
            devices = await asyncio.to_thread(self._inventory.read)
        except DeviceError as error:
            log.warning("the devices cannot be read, so nothing is started", error=str(error))
            raise DevicesUnreadable from error
        return tuple(map(self._policy.of, devices))

    async def snapshot(self) -> Snapshot:
        """The world now. Raises DevicesUnreadable."""
        devices = await self.devices()
        held = [job for job in self._queue.active() if job.attempts and job.attempts[-1].end_time is None]
        pids = await asyncio.to_thread(lambda: {job.id: frozenset(self._attempts.pids(job)) for job in held})
        ours = frozenset().union(*pids.values())
        holding = await asyncio.to_thread(lambda: [_holding(job, devices, pids[job.id]) for job in held])
        return Snapshot(
            devices=tuple(_without(device, ours) for device in devices),
            waiting=tuple(_waiting(job, job.estimate) for job in self._queued() if job.estimate),
            holding=tuple(holding),
        )

    async def rehearse(self, accepted: Accepted, priority: int) -> Trial:
        """What would happen to a job if it were submitted now and its data were ready. Raises DevicesUnreadable."""
        snapshot = await self.snapshot()
        ask = _ask(accepted.resolved, accepted.estimate)
        trial = Waiting(REHEARSED, ask, priority, self._clock())
        crowd = replace(snapshot, waiting=(*snapshot.waiting, trial))
        decision = await asyncio.to_thread(plan, crowd, self._clock())
        for start in decision.starts:
            if start.job == REHEARSED:
                return Trial(devices=start.devices)
        wait = next(wait for wait in decision.waits if wait.job == REHEARSED)
        return Trial(reason=Reason(ReasonCode(wait.code), wait.message))

    def _queued(self) -> list[Job]:
        return [job for job in self._queue.active() if job.state is JobState.QUEUED]

    def _heard(self, job: Job) -> None:
        if job.id not in self._told:
            self._wake.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS if self._queued() else None):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _commit(self, decision: Plan) -> list[Job]:
        """The jobs that got their devices, on disk in one flush."""
        jobs = {job.id: job for job in self._queued()}
        placed = [
            (start.job, Placed(start.devices, estimate.reserve_bytes))
            for start in decision.starts
            if start.job in jobs and (estimate := jobs[start.job].estimate)
        ]
        return await self._apply(placed)

    async def _start(self, job: Job) -> None:
        # It may have been stopped since.
        if (await self._queue.get(job.id)).state is not JobState.STARTING:
            return
        self._attempts.start(job, job.attempts[-1].devices)

    async def _explain(self, decision: Plan) -> None:
        reasons = [(wait.job, Waits(Reason(ReasonCode(wait.code), wait.message))) for wait in decision.waits]
        self._told = frozenset(job for job, _ in reasons)
        await self._apply(reasons)
        self._told = frozenset()

    async def _apply(self, moves: Sequence[tuple[str, Event]]) -> list[Job]:
        """Applies all at once, so that they share a commit; the jobs that took it."""
        answers = await asyncio.gather(*(self._queue.apply(*move) for move in moves), return_exceptions=True)
        for answer in answers:
            # A job that was cancelled, paused or deleted since the snapshot, or a full disk: the next cycle sees it.
            if isinstance(answer, BaseException) and not isinstance(answer, IllegalMove | JobNotFound | DiskFull):
                raise answer
        return [answer for answer in answers if isinstance(answer, Job)]


def _ask(training: TrainingSpec, estimate: MemoryEstimate) -> Ask:
    resources = training.resources
    kind: Kind = "gpu" if resources.device is DeviceKind.GPU else "cpu"
    return Ask(kind, resources.gpus or 1, estimate.reserve_bytes, resources.gpu_uuids)


def _waiting(job: Job, estimate: MemoryEstimate) -> Waiting:
    return Waiting(job.id, _ask(job.resolved, estimate), job.priority, job.queue_time or job.create_time)


def _without(device: Device, ours: frozenset[int]) -> Device:
    return replace(device, foreign=tuple(each for each in device.foreign if each.pid not in ours))


def _holding(job: Job, devices: Sequence[Device], pids: frozenset[int]) -> Holding:
    """What the job holds, and what its processes use of it as far as the driver or the kernel says."""
    attempt = job.attempts[-1]
    used = {device.id: _used(device, pids) for device in devices if device.id in attempt.devices}
    kind: Kind = "gpu" if job.resolved.resources.device is DeviceKind.GPU else "cpu"
    ask = Ask(kind, len(attempt.devices), attempt.reserved_bytes)
    return Holding(job.id, attempt.devices, ask, {key: size for key, size in used.items() if size})


def _used(device: Device, pids: frozenset[int]) -> int:
    if device.kind == "cpu":
        return sum(map(_resident_bytes, pids))
    return sum(each.bytes for each in device.foreign if each.pid in pids)


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0
