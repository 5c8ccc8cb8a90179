"""The cycle over fake devices: who is started, with what, and why the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.parts import HALF_LIFE, PREPARED, FakeInventory, cpu, nothing_measured, opened_database, submit

from ftd.changes import Changes
from ftd.devices import DeviceError
from ftd.dispatch import Dispatcher, is_news
from ftd.draft import draft
from ftd.errors import DevicesUnreadable
from ftd.intake import Accepted
from ftd.job import Job
from ftd.ledger import Ledger
from ftd.moves import Ended
from ftd.outlook import Outlook
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.records import JobState, MemoryEstimate, Outcome, Reason, ReasonCode
from ftd.rundir import RunDirectories
from ftd.spec import DeviceKind, JobSpec, Resources, TrainingSpec
from ftd.store import Store
from ftd.world import DevicePolicy, World
from ftsched.model import Device, Policy


class FakeAttempts:
    """Starts nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, job: Job, devices: tuple[str, ...]) -> None:
        self.started.append(job.id)

    def pids(self, job: Job) -> tuple[int, ...]:
        return ()


@dataclass
class Parts:
    queue: Queue
    attempts: FakeAttempts
    inventory: FakeInventory
    dispatcher: Dispatcher
    world: World
    # What time it is.
    now: list[float]


@pytest_asyncio.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    now = [9.0]

    def clock() -> float:
        return now[0]

    async with opened_database(tmp_path) as database, asyncio.TaskGroup() as group:
        ledger = Ledger(database, HALF_LIFE)
        runs = RunDirectories(tmp_path / "runs")
        queue = Queue(Store(database), runs, ledger, Changes(database, 1000), 100, {}, clock)
        attempts, inventory = FakeAttempts(), FakeInventory((cpu(),))
        policy = Policy(min_run_seconds=0.0)
        quarantine, sharing = Quarantine(database), DevicePolicy(None, 1)
        world = World(queue, attempts, runs, inventory, quarantine, ledger, sharing, policy, nothing_measured, clock)  # type: ignore[arg-type]
        dispatcher = Dispatcher(queue, attempts, world, Outlook(group, clock))  # type: ignore[arg-type]
        task = asyncio.create_task(dispatcher.run())
        yield Parts(queue, attempts, inventory, dispatcher, world, now)
        task.cancel()
        await queue.close()


async def queued(parts: Parts, reserve_bytes: int = 12, priority: int = 0) -> Job:
    job = await submit(parts.queue)
    estimate = MemoryEstimate((), reserve_bytes, reserve_bytes, "layer", 0.1, 128, "test")
    await parts.queue.update(job.id, lambda job: replace(job, priority=priority))
    ready: Job = await parts.queue.apply(job.id, type(PREPARED)(PREPARED.report, "/prepared", estimate))
    return ready


async def settled(parts: Parts, job: Job) -> Job:
    """The job when the dispatcher has said something of it."""
    async with asyncio.timeout(5):
        while (now := await parts.queue.get(job.id)).reason.code in (ReasonCode.PREPARED, ReasonCode.SUBMITTED):
            await asyncio.sleep(0.01)
    answer: Job = now
    return answer


async def until(parts: Parts, job: Job, state: JobState) -> Job:
    async with asyncio.timeout(5):
        while (now := await parts.queue.get(job.id)).state is not state:
            await asyncio.sleep(0.01)
    return now


async def test_a_job_that_fits_is_placed_then_started(parts: Parts) -> None:
    job = await settled(parts, await queued(parts))
    assert (job.state, job.attempts[0].devices, job.attempts[0].reserved_bytes) == (JobState.STARTING, ("cpu",), 12)
    await asyncio.sleep(0.05)
    assert parts.attempts.started == [job.id]


async def test_the_others_are_told_why_and_start_when_it_is_their_turn(parts: Parts) -> None:
    first = await settled(parts, await queued(parts))
    second = await settled(parts, await queued(parts))
    assert (second.state, second.reason.code) == (JobState.QUEUED, ReasonCode.NOT_ENOUGH_FREE_DEVICES)
    await parts.queue.apply(first.id, Ended(Outcome.COMPLETED))
    await until(parts, second, JobState.STARTING)


async def test_a_cycle_without_news_rests(parts: Parts) -> None:
    await settled(parts, await queued(parts))
    await settled(parts, await queued(parts))
    await asyncio.sleep(0.1)
    reads = parts.inventory.reads
    # Whatever the words of the reason, saying them is no news.
    parts.inventory.devices = (cpu(used_bytes=60),)
    await asyncio.sleep(0.3)
    assert parts.inventory.reads == reads


async def test_what_a_waiting_job_left_on_the_disk_is_read_once(parts: Parts, tmp_path: Path) -> None:
    job = await submit(parts.queue)
    estimate = MemoryEstimate((), 12, 12, "layer", 0.1, 128, "test", disk_bytes=100)
    checkpoint = tmp_path / "runs" / job.id / "checkpoints" / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"x" * 30)
    waiting = replace(job, state=JobState.QUEUED, estimate=estimate)
    first = await parts.world.snapshot([waiting])
    (checkpoint / "weights").write_bytes(b"x" * 90)
    second = await parts.world.snapshot([waiting])
    assert [each.waiting[0].ask.host.disk_bytes for each in (first, second)] == [70, 70]


async def test_without_waiting_jobs_the_devices_are_left_alone(parts: Parts) -> None:
    await submit(parts.queue)
    await asyncio.sleep(0.1)
    assert parts.inventory.reads == 0


async def test_devices_that_cannot_be_read_start_nothing_until_they_can(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> tuple[Device, ...]:
        raise DeviceError("the driver is gone")

    with monkeypatch.context() as patch:
        patch.setattr(parts.inventory, "read", broken)
        job = await queued(parts)
        await asyncio.sleep(0.1)
        with pytest.raises(DevicesUnreadable):
            await parts.world.devices()
        told = await settled(parts, job)
        assert (told.state, told.reason.code) == (JobState.QUEUED, ReasonCode.DEVICE_UNFIT)
    await queued(parts)
    await until(parts, job, JobState.STARTING)


async def test_a_rehearsal_says_where_or_why_not_and_changes_nothing(parts: Parts) -> None:
    training = TrainingSpec(resources=Resources(device=DeviceKind.CPU))
    accepted = Accepted("n", "p", training, MemoryEstimate((), 12, 12, "layer", 0.1, 128, "test"))
    small = draft(JobSpec(), accepted, parts.queue.runs, 9.0)
    trial = await parts.dispatcher.rehearse(small)
    assert (trial.devices, trial.reason) == (("cpu",), None)
    await settled(parts, await queued(parts))
    trial = await parts.dispatcher.rehearse(small)
    assert trial.reason is not None
    assert (trial.devices, trial.reason.code) == ((), ReasonCode.NOT_ENOUGH_FREE_DEVICES)
    assert len(parts.queue.active()) == 1


def test_the_policy_limits_jobs_by_kind_of_device() -> None:
    gpu = Device("GPU-1", "host", "gpu", "H100", 0, 100, 0)
    policy = DevicePolicy(jobs_per_gpu=1, jobs_on_cpu=3)
    assert (policy.of(gpu).max_jobs, policy.of(cpu()).max_jobs) == (1, 3)
    assert DevicePolicy(None, 1).of(gpu).max_jobs is None


@pytest.mark.parametrize(
    ("message", "news"),
    [
        (
            "needs 31.2 GiB on 1 GPU; best is GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours",
            False,
        ),
        (
            "needs 31.2 GiB on 1 GPU; best is GPU 2 with 21.9 GiB free, 10.1 GiB held by pid 4711 (python), not ours",
            False,
        ),
        (
            "needs 31.2 GiB on 1 GPU; best is GPU 2 with 12.0 GiB free, 20.0 GiB held by pid 4711 (python), not ours",
            True,
        ),
        (
            "needs 31.2 GiB on 1 GPU; best is GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4712 (python), not ours",
            True,
        ),
        (
            "needs 31.2 GiB on 1 GPU; best is GPU 3 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours",
            True,
        ),
        ("needs 31.2 GiB on 1 GPU; best is GPU 2 with 900 MiB free, 9.6 GiB held by pid 4711 (python), not ours", True),
    ],
)
def test_a_reason_is_news_when_it_is_another_or_really_different(message: str, news: bool) -> None:
    old = Reason(
        ReasonCode.FOREIGN_PROCESS,
        "needs 31.2 GiB on 1 GPU; best is GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours",
    )
    assert is_news(old, Reason(ReasonCode.FOREIGN_PROCESS, message)) is news
    assert is_news(old, Reason(ReasonCode.BEHIND_OTHER_JOBS, message))


async def test_a_job_starts_when_its_time_has_come(parts: Parts) -> None:
    job = await submit(parts.queue, JobSpec(not_before=100.0))
    await parts.queue.apply(job.id, PREPARED)
    told = await settled(parts, job)
    assert (told.state, told.reason.code) == (JobState.QUEUED, ReasonCode.NOT_BEFORE)
    parts.now[0] = 100.0
    parts.dispatcher.wake()
    await until(parts, job, JobState.STARTING)
