"""The world as the scheduler sees it: devices with everybody on them, the host, who holds and who waits, the policy.

Everybody who decides or answers takes the same snapshot from here, so that no two of them disagree. It reads and
counts; it never changes anything.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from ftd import needs
from ftd.attempts import Attempts
from ftd.devices import DeviceError, Inventory
from ftd.devices.port import Sensors, host_name
from ftd.duration import remaining
from ftd.eligible import Standing, stand
from ftd.errors import DevicesUnreadable
from ftd.job import Job
from ftd.ledger import Ledger, ask_of, kind_of, with_running
from ftd.measured import Measurement
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.records import Duration, JobState
from ftd.rundir import RunDirectories
from ftd.spec import DeviceKind, Sharing
from ftsched.model import Ask, Device, Holding, Needs, Policy, Snapshot, Waiting
from ftsched.pace import device_speed

T = TypeVar("T")
# What runs of the same model, method and shape as a job's have measured.
History = Callable[[Job], Awaitable[tuple[Measurement, ...]]]
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """How far devices are shared: jobs at once on a GPU (None: as far as memory goes) and on the CPU."""

    jobs_per_gpu: int | None
    jobs_on_cpu: int
    # What is different for single GPUs, by id.
    exceptions: Mapping[str, int | None] = field(default_factory=dict)

    def of(self, device: Device) -> Device:
        """The device with the policy that applies to it."""
        common = self.jobs_per_gpu if device.kind == "gpu" else self.jobs_on_cpu
        return replace(device, max_jobs=self.exceptions.get(device.id, common))


class World:
    """This host and its jobs."""

    def __init__(
        self,
        queue: Queue,
        attempts: Attempts,
        runs: RunDirectories,
        inventory: Inventory,
        quarantine: Quarantine,
        ledger: Ledger,
        devices: DevicePolicy,
        policy: Policy,
        history: History,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._attempts = attempts
        self._runs = runs
        self._inventory = inventory
        self._quarantine = quarantine
        self._ledger = ledger
        self._sharing = devices
        self.policy = policy
        self.clock = clock
        self._history = history
        # Seconds of an update in earlier runs like a job's next attempt, by job and attempt.
        self._steps: dict[tuple[str, int], tuple[float, ...]] = {}
        # What jobs that wait have left on the disk, by job and attempts so far: nobody adds to it until the next one.
        self._left: dict[tuple[str, int], Needs] = {}
        self._on_look: list[Callable[[tuple[Device, ...]], None]] = []

    def when_seen(self, callback: Callable[[tuple[Device, ...]], None]) -> None:
        """Calls back with the devices whenever they have been read."""
        self._on_look.append(callback)

    async def devices(self) -> tuple[Device, ...]:
        """The devices as they are now, every process on them a foreign one. Raises DevicesUnreadable."""
        devices = await self._ask(self._inventory.read)
        judged = tuple(self._quarantine.judge(self._sharing.of(device)) for device in devices)
        self._ledger.see(judged)
        for callback in self._on_look:
            callback(judged)
        return judged

    async def sensors(self) -> Mapping[str, Sensors]:
        """What the devices show to people. Raises DevicesUnreadable."""
        return await self._ask(self._inventory.sensors)

    async def standing(self, *more: Job) -> Standing:
        """What the jobs that have not ended, and some more, are allowed now."""
        jobs = [*self._queue.active(), *more]
        before = await self._queue.before(each.job for job in jobs for each in job.dependencies)
        return stand(jobs, before, self.clock())

    async def snapshot(self, ready: Iterable[Job] = ()) -> Snapshot:
        """The world now, with these jobs waiting. Raises DevicesUnreadable."""
        devices = await self.devices()
        held = [job for job in self._queue.active() if job.attempts and job.attempts[-1].end_time is None]
        ready = [job for job in ready if job.estimate]
        pids = await asyncio.to_thread(lambda: {job.id: frozenset(self._attempts.pids(job)) for job in held})
        has = await asyncio.to_thread(self._taken, held, ready, pids)
        host = await self._ask(lambda: needs.host(host_name(), self._runs.root.parent, (has[job.id] for job in held)))
        await self._learn([*held, *ready])
        ours = frozenset().union(*pids.values())
        snapshot = Snapshot(
            devices=tuple(_without(device, ours) for device in devices),
            waiting=tuple(self._waiting(job, has[job.id], devices) for job in ready),
            holding=tuple(self._holding(job, has[job.id], devices, pids[job.id]) for job in held),
            hosts=(host,),
            policy=self.policy,
        )
        now = self.clock()
        return replace(snapshot, usage=with_running(await self._ledger.usage(now), snapshot, now))

    def duration(self, job: Job, devices: Sequence[Device]) -> Duration | None:
        """How long the job still runs once it has its devices; None where nobody can say."""
        on_gpu = job.resolved.resources.device is DeviceKind.GPU
        name = next((device.name for device in devices if (device.kind == "gpu") is on_gpu), "")
        speed = device_speed(name, 0 if on_gpu else os.cpu_count() or 1)
        steps = self._steps.get((job.id, len(job.attempts)), ())
        return remaining(job, self._queue.progress_now(job.id), steps, speed)

    def _taken(self, held: Sequence[Job], ready: Sequence[Job], pids: Mapping[str, frozenset[int]]) -> dict[str, Needs]:
        """What each job has of the host. Reads the folders of those that run, and once of those that wait."""
        left = {}
        for job in ready:
            key = (job.id, len(job.attempts))
            left[key] = self._left.get(key) or needs.taken(self._runs.get(job.id), ())
        self._left = left
        running = {job.id: needs.taken(self._runs.get(job.id), pids[job.id]) for job in held}
        return running | {job: known for (job, _), known in left.items()}

    async def _learn(self, jobs: Sequence[Job]) -> None:
        """Looks up once for each attempt what earlier runs measured, which means to read the model's config."""
        known = {job.id for job in (*self._queue.active(), *jobs)}
        self._steps = {key: steps for key, steps in self._steps.items() if key[0] in known}
        for job in jobs:
            key = (job.id, len(job.attempts))
            if key not in self._steps:
                runs = await self._history(job)
                self._steps[key] = tuple(run.step_seconds for run in runs if run.step_seconds)

    def _waiting(self, job: Job, has: Needs, devices: Sequence[Device]) -> Waiting:
        duration = self.duration(job, devices)
        return Waiting(
            job=job.id,
            ask=_ask(job, needs.still_to_take(job, has)),
            priority=job.priority,
            queue_time=job.queue_time or job.create_time,
            project=job.project,
            run_seconds=duration.seconds if duration else None,
            attained_seconds=_attained(job, self.clock()),
            front=job.front,
        )

    def _holding(self, job: Job, has: Needs, devices: Sequence[Device], pids: frozenset[int]) -> Holding:
        attempt = job.attempts[-1]
        used = {device.id: _used(device, pids) for device in devices if device.id in attempt.devices}
        duration = self.duration(job, devices)
        return Holding(
            job=job.id,
            devices=attempt.devices,
            ask=replace(ask_of(job, attempt), host=needs.at_least(needs.promised(job), has)),
            used_bytes={device: size for device, size in used.items() if size},
            project=job.project,
            priority=job.priority,
            start_time=attempt.start_time,
            run_seconds=duration.seconds if duration else None,
            attained_seconds=_attained(job, self.clock()),
            preemptible=job.spec.preemptible is not False,
            leaving=job.state is JobState.STOPPING,
        )

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(question)
        except DeviceError as error:
            log.warning("the devices cannot be read, so nothing is started", error=str(error))
            raise DevicesUnreadable from error


def _ask(job: Job, host: Needs) -> Ask:
    resources = job.resolved.resources
    return Ask(
        kind=kind_of(job),
        devices=resources.gpus or 1,
        bytes_per_device=job.estimate.reserve_bytes if job.estimate else 0,
        pinned=resources.gpu_uuids,
        exclusive=resources.sharing is Sharing.EXCLUSIVE,
        host=host,
    )


def _attained(job: Job, now: float) -> float:
    """How long it has trained in all its attempts; a trial is no training."""
    spans = ((now if a.end_time is None else a.end_time) - a.start_time for a in job.attempts if not a.probe)
    return sum(max(0.0, seconds) for seconds in spans)


def _without(device: Device, ours: frozenset[int]) -> Device:
    return replace(device, foreign=tuple(each for each in device.foreign if each.pid not in ours))


def _used(device: Device, pids: frozenset[int]) -> int:
    if device.kind == "cpu":
        return sum(map(needs.resident_bytes, pids))
    return sum(each.bytes for each in device.foreign if each.pid in pids)
