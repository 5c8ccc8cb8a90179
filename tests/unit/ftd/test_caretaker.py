"""Devices that fail: what is reported is put in quarantine, what keeps memory too, and what is lost ends its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.parts import HALF_LIFE, PREPARED, FakeInventory, nothing_measured, opened_database, submit

from ftd import caretaker
from ftd.caretaker import Caretaker, kept_bytes
from ftd.changes import Changes
from ftd.job import Job
from ftd.ledger import Ledger
from ftd.moves import Ended, Placed
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.records import Failure, FailureClass, Outcome
from ftd.rundir import RunDirectories
from ftd.store import Store
from ftd.world import DevicePolicy, World
from ftsched.model import Device, Foreign, Policy

GIB = 2**30
GPU = Device("GPU-0", "host", "gpu", "H100", 0, 80 * GIB, 0)


class FakeAttempts:
    def __init__(self) -> None:
        self.lost: list[tuple[str, Failure]] = []

    def lose(self, job: Job, failure: Failure) -> None:
        self.lost.append((job.id, failure))

    def pids(self, job: Job) -> tuple[int, ...]:
        return ()


@dataclass
class Parts:
    queue: Queue
    attempts: FakeAttempts
    inventory: FakeInventory
    quarantine: Quarantine
    world: World


@pytest_asyncio.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    monkeypatch.setattr(caretaker, "GIVE_BACK_SECONDS", 0.05)
    monkeypatch.setattr(caretaker, "BETWEEN_SECONDS", 0.01)
    async with opened_database(tmp_path) as database, asyncio.TaskGroup() as group:
        ledger, runs = Ledger(database, HALF_LIFE), RunDirectories(tmp_path / "runs")
        queue = Queue(Store(database), runs, ledger, Changes(database, 1000), 100, {})
        attempts, inventory, quarantine = FakeAttempts(), FakeInventory((GPU,)), Quarantine(database)
        sharing = DevicePolicy(None, 1)
        world = World(queue, attempts, runs, inventory, quarantine, ledger, sharing, Policy(), nothing_measured)  # type: ignore[arg-type]
        caring = Caretaker(queue, attempts, world, quarantine, group, lambda: None)  # type: ignore[arg-type]
        watching = group.create_task(caring.watch(inventory))
        await asyncio.sleep(0)
        yield Parts(queue, attempts, inventory, quarantine, world)
        watching.cancel()
        await queue.close()


async def on_gpu(parts: Parts) -> Job:
    job = await submit(parts.queue)
    await parts.queue.apply(job.id, PREPARED)
    return await parts.queue.apply(job.id, Placed(("GPU-0",), 12))


async def in_quarantine(parts: Parts) -> str:
    async with asyncio.timeout(5):
        while "GPU-0" not in parts.quarantine:
            await asyncio.sleep(0.01)
    return parts.quarantine.judge(GPU).unfit


async def test_what_is_reported_is_in_quarantine_after_a_restart_too(parts: Parts, tmp_path: Path) -> None:
    job = await on_gpu(parts)
    parts.inventory.report(replace(GPU, unfit="Xid 48"))
    assert await in_quarantine(parts) == "in quarantine: Xid 48"
    # The job goes on.
    assert parts.attempts.lost == []
    await parts.quarantine.load()
    assert "GPU-0" in parts.quarantine
    assert parts.quarantine.judge(replace(GPU, unfit="Xid 48")).unfit == "Xid 48"
    await parts.quarantine.end("GPU-0")
    await parts.quarantine.load()
    assert parts.quarantine.judge(GPU) == GPU
    await parts.queue.apply(job.id, Ended(Outcome.COMPLETED))


async def test_a_lost_device_ends_what_runs_on_it(parts: Parts) -> None:
    job = await on_gpu(parts)
    parts.inventory.devices = (replace(GPU, unfit="it is gone", lost=True),)
    await parts.world.devices()
    ((lost, failure),) = parts.attempts.lost
    assert (lost, failure.failure_class) == (job.id, FailureClass.WORKER_LOST)
    assert failure.message == "GPU 0 was lost while it ran there: it is gone"
    # It may be back tomorrow: what is only gone is no fault.
    assert "GPU-0" not in parts.quarantine


async def test_memory_that_is_not_given_back_is_told_with_numbers(parts: Parts) -> None:
    job = await on_gpu(parts)
    parts.inventory.devices = (replace(GPU, used_bytes=30 * GIB, foreign=(Foreign(7, "x", 9 * GIB),)),)
    await parts.queue.apply(job.id, Ended(Outcome.COMPLETED))
    assert f"21.0 GiB are in use by no process, 0 s after job {job.id} left it" in await in_quarantine(parts)


async def test_a_device_that_gives_back_or_has_another_job_is_left_alone(parts: Parts) -> None:
    job, other = await on_gpu(parts), await on_gpu(parts)
    parts.inventory.devices = (replace(GPU, used_bytes=30 * GIB),)
    await parts.queue.apply(job.id, Ended(Outcome.COMPLETED))
    await asyncio.sleep(0.2)
    assert "GPU-0" not in parts.quarantine
    parts.inventory.devices = (replace(GPU, used_bytes=GIB // 2),)
    await parts.queue.apply(other.id, Ended(Outcome.COMPLETED))
    await asyncio.sleep(0.2)
    assert "GPU-0" not in parts.quarantine


def test_only_what_the_driver_explains_can_be_missing() -> None:
    assert kept_bytes(replace(GPU, used_bytes=5, foreign=(Foreign(1, "a", 2),))) == 3
    assert kept_bytes(replace(GPU, used_bytes=5, foreign=(Foreign(1, "a", 0),))) == 0
    assert kept_bytes(Device("cpu", "host", "cpu", "CPU", -1, 10, 5)) == 0
