"""The cycle over fake devices: who is started, with what, and why the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from tests.support.parts import PREPARED, FakeInventory, cpu, opened_queue, submit

from ftd.devices import DeviceError
from ftd.dispatch import DevicePolicy, Dispatcher
from ftd.errors import DevicesUnreadable
from ftd.intake import Accepted
from ftd.job import Job
from ftd.moves import Ended
from ftd.records import JobState, MemoryEstimate, Outcome, ReasonCode
from ftd.spec import DeviceKind, Resources, TrainingSpec
from ftsched.model import Device


class FakeAttempts:
    """Starts nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, job: Job, devices: tuple[str, ...]) -> None:
        self.started.append(job.id)

    def pids(self, job: Job) -> tuple[int, ...]:
        return ()


@pytest_asyncio.fixture
async def parts(tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    async with opened_queue(tmp_path) as queue:
        attempts, inventory = FakeAttempts(), FakeInventory((cpu(),))
        dispatcher = Dispatcher(queue, attempts, inventory, DevicePolicy(None, 1), clock=lambda: 9.0)  # type: ignore[arg-type]
        task = asyncio.create_task(dispatcher.run())
        yield SimpleNamespace(queue=queue, attempts=attempts, inventory=inventory, dispatcher=dispatcher)
        task.cancel()


async def queued(parts: SimpleNamespace, reserve_bytes: int = 12, priority: int = 0) -> Job:
    job = await submit(parts.queue)
    estimate = MemoryEstimate((), reserve_bytes, reserve_bytes, "layer", 0.1, 128, "test")
    await parts.queue.update(job.id, priority=priority)
    ready: Job = await parts.queue.apply(job.id, type(PREPARED)(PREPARED.report, "/prepared", estimate))
    return ready


async def settled(parts: SimpleNamespace, job: Job) -> Job:
    """The job when the dispatcher has said something of it."""
    async with asyncio.timeout(5):
        while (now := await parts.queue.get(job.id)).reason.code in (ReasonCode.PREPARED, ReasonCode.SUBMITTED):
            await asyncio.sleep(0.01)
    answer: Job = now
    return answer


async def test_a_job_that_fits_is_placed_then_started(parts: SimpleNamespace) -> None:
    job = await settled(parts, await queued(parts))
    assert (job.state, job.attempts[0].devices, job.attempts[0].reserved_bytes) == (JobState.STARTING, ("cpu",), 12)
    await asyncio.sleep(0.05)
    # No cap on the CPU: the memory is the host's.
    assert parts.attempts.started == [job.id]


async def test_the_others_are_told_why_and_start_when_it_is_their_turn(parts: SimpleNamespace) -> None:
    first = await settled(parts, await queued(parts))
    second = await settled(parts, await queued(parts))
    assert (second.state, second.reason.code) == (JobState.QUEUED, ReasonCode.NOT_ENOUGH_FREE_DEVICES)
    await parts.queue.apply(first.id, Ended(Outcome.COMPLETED))
    async with asyncio.timeout(5):
        while (await parts.queue.get(second.id)).state is not JobState.STARTING:
            await asyncio.sleep(0.01)


async def test_a_cycle_without_news_rests(parts: SimpleNamespace) -> None:
    await settled(parts, await queued(parts))
    await settled(parts, await queued(parts))
    await asyncio.sleep(0.1)
    reads = parts.inventory.reads
    # Whatever the words of the reason, saying them is no news.
    parts.inventory.devices = (cpu(used_bytes=60),)
    await asyncio.sleep(0.3)
    assert parts.inventory.reads == reads


async def test_without_waiting_jobs_the_devices_are_left_alone(parts: SimpleNamespace) -> None:
    await submit(parts.queue)
    await asyncio.sleep(0.1)
    assert parts.inventory.reads == 0


async def test_devices_that_cannot_be_read_start_nothing_until_they_can(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> tuple[Device, ...]:
        raise DeviceError("the driver is gone")

    with monkeypatch.context() as patch:
        patch.setattr(parts.inventory, "read", broken)
        job = await queued(parts)
        await asyncio.sleep(0.1)
        with pytest.raises(DevicesUnreadable):
            await parts.dispatcher.devices()
        assert (await parts.queue.get(job.id)).state is JobState.QUEUED
    await queued(parts)
    assert (await settled(parts, job)).state is JobState.STARTING


async def test_a_rehearsal_says_where_or_why_not_and_changes_nothing(parts: SimpleNamespace) -> None:
    training = TrainingSpec(resources=Resources(device=DeviceKind.CPU))
    small = Accepted("n", "p", training, MemoryEstimate((), 12, 12, "layer", 0.1, 128, "test"))
    trial = await parts.dispatcher.rehearse(small, 0)
    assert (trial.devices, trial.reason) == (("cpu",), None)
    await settled(parts, await queued(parts))
    trial = await parts.dispatcher.rehearse(small, 0)
    assert trial.reason is not None
    assert (trial.devices, trial.reason.code) == ((), ReasonCode.NOT_ENOUGH_FREE_DEVICES)
    assert len(parts.queue.active()) == 1


def test_the_policy_limits_jobs_by_kind_of_device() -> None:
    gpu = Device("GPU-1", "host", "gpu", "H100", 0, 100, 0)
    policy = DevicePolicy(jobs_per_gpu=1, jobs_on_cpu=3)
    assert (policy.of(gpu).max_jobs, policy.of(cpu()).max_jobs) == (1, 3)
    assert DevicePolicy(None, 1).of(gpu).max_jobs is None
