"""What the daemon does about devices that fail: jobs on a lost one are ended, a faulty one is put in quarantine.

Three things make it act: the inventory's watch reports an error on a device, a look finds that a device is lost, and a
device does not give memory back after an attempt. It never heals a device; an admin does, and releases it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from ftd.attempts import Attempts
from ftd.devices import Inventory
from ftd.errors import DevicesUnreadable, DiskFull
from ftd.job import Job
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.records import Failure, FailureClass
from ftd.world import World
from ftsched.model import Device

# While jobs hold devices, these are looked at this often.
LOOK_SECONDS = 30.0
# A driver takes a moment to take memory back after the last process has ended.
GIVE_BACK_SECONDS = 20.0
BETWEEN_SECONDS = 0.5
# The driver's own part of a device in use, which belongs to nobody.
DRIVER_BYTES = 2**30
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Caretaker:
    """Looks after the devices. `group` holds its checks; `act` is called when it has done something."""

    def __init__(
        self,
        queue: Queue,
        attempts: Attempts,
        world: World,
        quarantine: Quarantine,
        group: asyncio.TaskGroup,
        act: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._attempts = attempts
        self._world = world
        self._quarantine = quarantine
        self._group = group
        self._act = act
        # Attempts that hold devices, by job: those that end are checked for what they leave.
        self._open = {job.id: len(job.attempts) for job in queue.active() if _holds(job)}
        queue.listen(self._heard)
        world.when_seen(self._seen)

    async def watch(self, inventory: Inventory) -> None:
        """Acts on what the inventory reports, for ever; a device may be lost without a report."""
        loop = asyncio.get_running_loop()
        reports: asyncio.Queue[Device] = asyncio.Queue()

        def report(device: Device) -> None:
            loop.call_soon_threadsafe(reports.put_nowait, device)

        stop = inventory.watch(report)
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_SECONDS if self._open else None):
                        device = await reports.get()
                except TimeoutError:
                    await self._look()
                    continue
                self._seen((device,))
                if device.id not in self._quarantine:
                    await self._quarantined(device.id, device.unfit)
        finally:
            stop()

    async def _look(self) -> None:
        with suppress(DevicesUnreadable):
            await self._world.devices()

    def _seen(self, devices: tuple[Device, ...]) -> None:
        for device in devices:
            if device.lost:
                self._end_attempts_on(device)

    def _end_attempts_on(self, device: Device) -> None:
        """Ends what runs on a lost device; the jobs go on elsewhere."""
        failure = Failure(
            FailureClass.WORKER_LOST,
            f"{device.label} was lost while it ran there: {device.unfit}",
            "look at the GPU; the job goes on on others, from its newest checkpoint",
        )
        for job in self._on(device.id):
            self._attempts.lose(job, failure)

    def _on(self, device: str) -> list[Job]:
        return [job for job in self._queue.active() if _holds(job) and device in job.attempts[-1].devices]

    def _heard(self, job: Job) -> None:
        if _holds(job):
            self._open[job.id] = len(job.attempts)
        elif number := self._open.pop(job.id, 0):
            devices = job.attempts[number - 1].devices
            self._group.create_task(self._see_given_back(job.id, frozenset(devices)), name=f"give back {job.id}")

    async def _see_given_back(self, job: str, devices: frozenset[str]) -> None:
        """Waits until the devices have their memory back; those that keep it are put in quarantine."""
        keeping: dict[str, str] = {}
        for _ in range(int(GIVE_BACK_SECONDS / BETWEEN_SECONDS)):
            keeping = await self._keeping(devices, keeping)
            if not keeping:
                return
            await asyncio.sleep(BETWEEN_SECONDS)
        for device, what in keeping.items():
            await self._quarantined(device, f"{what}, {GIVE_BACK_SECONDS:.0f} s after job {job} left it")

    async def _keeping(self, devices: frozenset[str], before: dict[str, str]) -> dict[str, str]:
        """Those of the devices that keep memory which no process has, in words. One with a job on it shows nothing."""
        try:
            seen = await self._world.devices()
        except DevicesUnreadable:
            return before
        return {
            device.id: f"{kept / 2**30:.1f} GiB are in use by no process"
            for device in seen
            if device.id in devices and not self._on(device.id) and (kept := kept_bytes(device)) > DRIVER_BYTES
        }

    async def _quarantined(self, device: str, reason: str) -> None:
        try:
            await self._quarantine.begin(device, reason)
        except DiskFull:
            log.warning("a device should be in quarantine, but the disk is full", device=device, reason=reason)
        self._act()


def kept_bytes(device: Device) -> int:
    """Memory in use that no process has; 0 where the driver does not say what each process has, or it is the host's."""
    if device.kind == "cpu" or device.lost or any(not process.bytes for process in device.foreign):
        return 0
    return max(0, device.used_bytes - sum(process.bytes for process in device.foreign))


def _holds(job: Job) -> bool:
    return bool(job.attempts) and job.attempts[-1].end_time is None
