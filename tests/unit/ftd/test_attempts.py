"""Attempts whose processes are not real: what the queue is told, whatever happens to them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from tests.support.parts import (
    ESTIMATE,
    PREPARED,
    REPORT,
    FakeHandle,
    FakeInventory,
    FakeLauncher,
    cpu,
    opened_queue,
    submit,
)

from ftd import attempts as attempts_module
from ftd.attempts import Attempts
from ftd.bootstrap import Exit
from ftd.database import Database
from ftd.doorbells import Doorbells
from ftd.errors import DiskFull
from ftd.experience import Experience
from ftd.intake import Intake
from ftd.job import Job
from ftd.measured import Measurement, Measurements, Subject
from ftd.models import HostPolicy
from ftd.moves import Event, Placed
from ftd.paths import PathRoots, Roots
from ftd.prepare import Preparer
from ftd.probe import wanted
from ftd.queue import Queue
from ftd.records import Failure, FailureClass, JobState, Outcome, Reason, ReasonCode
from ftd.rundir import RunDirectories
from ftd.spec import Batch, Compute, DeviceKind, JobSpec, Probe, Resources, TrainingSpec
from ftd.store import MIGRATIONS
from ftsched.estimate import Estimate
from ftsched.fixes import Fix, Setting

KILLED = Failure(FailureClass.WORKER_KILLED, "killed by SIGKILL")


FIX = Fix("rows of 512 tokens", (Setting("data.max_length", "512"),), Estimate((), 1, 1, "layer", 0.1, "test"))
SUBJECT = Subject("model", "lora", "shape")


class FixedIntake(Intake):
    """Estimates without a model, and remembers the length."""

    lengths: list[int] = []  # noqa: RUF012 - a frozen dataclass has no other place

    def estimate(self, resolved: object, sequence_length: int) -> object:  # type: ignore[override]
        self.lengths.append(sequence_length)
        return ESTIMATE

    def fixes(self, resolved: object, sequence_length: int) -> tuple[Fix, ...]:  # type: ignore[override]
        return (FIX,)

    def subject(self, resolved: object, sequence_length: int) -> tuple[Subject, int]:  # type: ignore[override]
        return SUBJECT, 10


@asynccontextmanager
async def running(root: Path, launcher: FakeLauncher) -> AsyncIterator[SimpleNamespace]:
    """Attempts over a launcher; at the end their tasks are cancelled, as when the daemon stops."""
    roots = Roots(())
    intake = FixedIntake(PathRoots(roots, roots, roots), HostPolicy())
    ready: asyncio.Future[SimpleNamespace] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        # A task group belongs to one task, and a fixture begins and ends in two.
        database = Database(root / "measured.db", MIGRATIONS)
        await database.open()
        measurements = Measurements(database)
        async with opened_queue(root) as queue, asyncio.TaskGroup() as group:
            experience = Experience(intake, measurements, FakeInventory((cpu(),)), clock=lambda: 9.0)
            attempts = Attempts(queue, launcher, RunDirectories(root / "runs"), Doorbells(), intake, experience, group)
            ready.set_result(
                SimpleNamespace(
                    queue=queue, attempts=attempts, launcher=launcher, group=group, measurements=measurements
                )
            )
            try:
                await asyncio.Event().wait()
            finally:
                await database.close()

    holder = asyncio.create_task(hold())
    yield await ready
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)


@pytest_asyncio.fixture
async def parts(tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    async with running(tmp_path, FakeLauncher()) as parts:
        yield parts


async def placed(queue: Queue) -> Job:
    job = await submit(queue)
    await queue.apply(job.id, PREPARED)
    return await queue.apply(job.id, Placed(("cpu",), 12))


async def until(queue: Queue, job: Job, state: JobState) -> Job:
    async with asyncio.timeout(5):
        while (now := await queue.get(job.id)).state is not state:
            await asyncio.sleep(0.01)
    return now


async def handle_of(parts: SimpleNamespace, job: Job, number: int) -> FakeHandle:
    async with asyncio.timeout(5):
        while (job.id, number) not in parts.launcher.handles:
            await asyncio.sleep(0.01)
    handle: FakeHandle = parts.launcher.handles[job.id, number]
    return handle


async def test_a_preparation_gives_report_rows_and_the_estimate_for_the_longest(parts: SimpleNamespace) -> None:
    job = await submit(parts.queue)
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 0)).end(Exit(Outcome.COMPLETED, report=REPORT, prepared_directory="/prepared/y"))
    ready = await until(parts.queue, job, JobState.QUEUED)
    assert (ready.data, ready.prepared_directory, ready.estimate) == (REPORT, "/prepared/y", ESTIMATE)
    assert FixedIntake.lengths[-1] == 100


async def test_an_attempt_that_ends_is_told_with_its_numbers(parts: SimpleNamespace) -> None:
    job = await placed(parts.queue)
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(Exit(Outcome.COMPLETED, None, "checkpoint-9", 5))
    done = await until(parts.queue, job, JobState.SUCCEEDED)
    assert parts.launcher.started == [(job.id, 1, ("cpu",))]
    assert (done.attempts[0].checkpoint, done.attempts[0].peak_memory_bytes) == ("checkpoint-9", 5)
    assert not parts.attempts.runs(done)


@pytest.mark.parametrize(
    ("refusal", "failure_class"),
    [
        (DiskFull("the disk is full"), FailureClass.DISK_FULL),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), FailureClass.INTERNAL),
    ],
)
async def test_what_cannot_be_started_fails_with_the_reason(
    tmp_path: Path, refusal: Exception, failure_class: FailureClass
) -> None:
    async with running(tmp_path, FakeLauncher(refusal=refusal)) as parts:
        job = await placed(parts.queue)
        parts.attempts.start(job, ("cpu",))
        failed = await until(parts.queue, job, JobState.FAILED)
        assert failed.failure is not None
        assert failed.failure.failure_class is failure_class


async def test_a_stop_reaches_the_processes_with_what_is_to_be_saved(parts: SimpleNamespace) -> None:
    job = await placed(parts.queue)
    parts.attempts.start(job, ("cpu",))
    handle = await handle_of(parts, job, 1)
    await asyncio.sleep(0.05)
    await parts.queue.cancel(job.id, "client", save=True)
    await until(parts.queue, job, JobState.CANCELLED)
    assert handle.stops == [True]


async def test_a_stop_before_there_is_a_process_is_not_forgotten(parts: SimpleNamespace) -> None:
    parts.launcher.gate.clear()
    job = await placed(parts.queue)
    parts.attempts.start(job, ("cpu",))
    await parts.queue.pause(job.id, "client")
    parts.launcher.gate.set()
    await until(parts.queue, job, JobState.PAUSED)
    assert (await handle_of(parts, job, 1)).stops == [True]


async def test_a_stop_of_what_was_never_started_is_the_end(parts: SimpleNamespace) -> None:
    job = await submit(parts.queue)
    await parts.queue.cancel(job.id, "client")
    await until(parts.queue, job, JobState.CANCELLED)
    assert parts.launcher.started == []


async def test_recovery_takes_no_longer_than_its_budget_and_forgets_nobody(parts: SimpleNamespace) -> None:
    lost, ended, going, slow = [await placed(parts.queue) for _ in range(4)]
    handle = FakeHandle()
    parts.launcher.found = {lost.id: None, ended.id: Exit(Outcome.FAILED, KILLED), going.id: handle}
    async with asyncio.timeout(3):
        await parts.attempts.recover([lost, ended, going, slow], seconds=0.2)
    # Never started, so it is decided again; one that was killed has retries left.
    await until(parts.queue, lost, JobState.QUEUED)
    await until(parts.queue, ended, JobState.QUEUED)
    assert parts.attempts.runs(going)
    assert parts.attempts.runs(slow)
    handle.end(Exit(Outcome.COMPLETED))
    await until(parts.queue, going, JobState.SUCCEEDED)


async def test_the_end_of_an_attempt_waits_for_room_on_the_disk(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_module, "RETRY_SECONDS", 0.01)
    job = await placed(parts.queue)
    apply, refusals = parts.queue.apply, 3

    async def full_disk(job_id: str, event: Event, actor: str = "daemon") -> Job:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise DiskFull("the disk is full")
        answer: Job = await apply(job_id, event, actor)
        return answer

    monkeypatch.setattr(parts.queue, "apply", full_disk)
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(Exit(Outcome.COMPLETED))
    await until(parts.queue, job, JobState.SUCCEEDED)
    assert refusals < 0


async def test_preparations_wait_for_a_place_and_are_tried_again(parts: SimpleNamespace) -> None:
    jobs = [await submit(parts.queue) for _ in range(3)]
    parts.group.create_task(Preparer(parts.queue, parts.attempts, at_once=2).run())
    first = await handle_of(parts, jobs[0], 0)
    await handle_of(parts, jobs[1], 0)
    await asyncio.sleep(0.05)
    assert [started[0] for started in parts.launcher.started] == [jobs[0].id, jobs[1].id]
    # A killed preparation goes to work again, and keeps its place before the younger one.
    first.end(Exit(Outcome.FAILED, KILLED))
    async with asyncio.timeout(5):
        while len(parts.launcher.started) < 3:
            await asyncio.sleep(0.01)
    assert [started[0] for started in parts.launcher.started] == [jobs[0].id, jobs[1].id, jobs[0].id]
    (await handle_of(parts, jobs[1], 0)).end(Exit(Outcome.COMPLETED, report=REPORT))
    await handle_of(parts, jobs[2], 0)


OUT_OF_MEMORY = Failure(FailureClass.OUT_OF_HOST_MEMORY, "out of memory at step 3", "use less")


async def test_out_of_memory_is_the_same_job_with_smaller_micro_batches(parts: SimpleNamespace) -> None:
    """All its retries are used up, which changes nothing: it is not tried again as it was."""
    training = TrainingSpec(
        batch=Batch(2, 4), compute=Compute(gradient_checkpointing=True), resources=Resources(device=DeviceKind.CPU)
    )
    job = await submit(parts.queue, JobSpec(max_retries=0), training=training)
    await parts.queue.apply(job.id, PREPARED)
    job = await parts.queue.apply(job.id, Placed(("cpu",), 30))
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(Exit(Outcome.FAILED, OUT_OF_MEMORY, "checkpoint-2", 9, 0.5))
    eased = await until(parts.queue, job, JobState.QUEUED)
    assert eased.resolved.batch == Batch(1, 4)
    assert eased.reason == Reason(
        ReasonCode.LESS_MEMORY,
        "out of memory at step 3; goes on with batch.micro_batch 2 → 1, each update in 4 parts",
    )
    assert eased.transitions[-1].reason == eased.reason
    first = eased.attempts[0]
    assert (first.failure, first.checkpoint, first.peak_memory_bytes) == (OUT_OF_MEMORY, "checkpoint-2", 9)
    assert (first.micro_batch, first.step_seconds) == (2, 0.5)
    # The new estimate is 12, and 30 did not suffice for twice the micro-batch.
    assert eased.estimate is not None
    assert eased.estimate.reserve_bytes == 30

    job = await parts.queue.apply(job.id, Placed(("cpu",), 30))
    assert (job.attempts[-1].micro_batch, job.attempts[-1].resumed_from) == (1, "checkpoint-2")
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 2)).end(Exit(Outcome.FAILED, OUT_OF_MEMORY))
    failed = await until(parts.queue, job, JobState.FAILED)
    assert failed.failure is not None
    assert failed.failure == replace(
        OUT_OF_MEMORY,
        advice="the micro-batch cannot be smaller and recomputation is on; "
        "less memory is needed with data.max_length 512",
    )


async def test_a_stop_outranks_another_try(parts: SimpleNamespace) -> None:
    training = TrainingSpec(batch=Batch(2, 4), resources=Resources(device=DeviceKind.CPU))
    job = await submit(parts.queue, training=training)
    await parts.queue.apply(job.id, PREPARED)
    job = await parts.queue.apply(job.id, Placed(("cpu",), 30))
    parts.launcher.stubborn = True
    parts.attempts.start(job, ("cpu",))
    handle = await handle_of(parts, job, 1)
    await parts.queue.cancel(job.id, "client")
    handle.end(Exit(Outcome.FAILED, OUT_OF_MEMORY))
    ended = await until(parts.queue, job, JobState.CANCELLED)
    # If it is retried, it goes on with less.
    assert ended.resolved.batch == Batch(1, 4)


async def measured(parts: SimpleNamespace, ended: Exit) -> tuple[Measurement, ...]:
    """What is known after an attempt that ended so, on a GPU, where a peak is of tensors alone."""
    job = await submit(parts.queue, training=TrainingSpec(resources=Resources(device=DeviceKind.GPU)))
    await parts.queue.apply(job.id, PREPARED)
    job = await parts.queue.apply(job.id, Placed(("cpu",), 30))
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(ended)
    async with asyncio.timeout(5):
        while parts.attempts.runs(await parts.queue.get(job.id)):
            await asyncio.sleep(0.01)
    found: tuple[Measurement, ...] = parts.measurements.of("model", "lora")
    return found


async def test_what_an_attempt_measured_is_kept(parts: SimpleNamespace) -> None:
    assert await measured(parts, Exit(Outcome.COMPLETED, None, "", 7, 0.5)) == (
        Measurement(SUBJECT, 10, 7, False, 0.5, 0.0, "CPU", 9.0),
    )
    out_of_memory = Failure(FailureClass.OUT_OF_GPU_MEMORY, "no")
    assert (await measured(parts, Exit(Outcome.FAILED, out_of_memory, "", 9)))[1].out_of_memory


@pytest.mark.parametrize(
    "ended",
    [Exit(Outcome.STOPPED, peak_memory_bytes=7), Exit(Outcome.FAILED, KILLED, step_seconds=1.0)],
    ids=["no step", "no peak"],
)
async def test_what_measured_nothing_is_not_kept(parts: SimpleNamespace, ended: Exit) -> None:
    assert await measured(parts, ended) == ()


async def test_a_trial_gives_its_devices_back_and_a_better_estimate(parts: SimpleNamespace) -> None:
    job = await submit(parts.queue, training=TrainingSpec(resources=Resources(device=DeviceKind.GPU)))
    await parts.queue.apply(job.id, PREPARED)
    job = await parts.queue.apply(job.id, Placed(("cpu",), 30, probe=True))
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(Exit(Outcome.COMPLETED, None, "", 1000, 0.5))
    tried = await until(parts.queue, job, JobState.QUEUED)
    assert tried.reason.code is ReasonCode.PROBED
    assert tried.estimate is not None
    assert (tried.estimate.peak_bytes, tried.estimate.basis) == (1000, "measured in a trial")
    assert (tried.attempts[0].probe, tried.attempts[0].step_seconds) == (True, 0.5)
    assert parts.measurements.of("model", "lora")[0].peak_bytes == 1000
    assert not wanted(tried)


async def test_a_trial_that_runs_out_of_memory_is_tried_with_less(parts: SimpleNamespace) -> None:
    training = TrainingSpec(batch=Batch(2, 4), resources=Resources(device=DeviceKind.CPU))
    job = await submit(parts.queue, JobSpec(probe=Probe.ALWAYS), training=training)
    await parts.queue.apply(job.id, PREPARED)
    job = await parts.queue.apply(job.id, Placed(("cpu",), 30, probe=True))
    parts.attempts.start(job, ("cpu",))
    (await handle_of(parts, job, 1)).end(Exit(Outcome.FAILED, OUT_OF_MEMORY))
    eased = await until(parts.queue, job, JobState.QUEUED)
    assert eased.reason.code is ReasonCode.LESS_MEMORY
    assert eased.resolved.batch.micro_batch == 1
    assert wanted(eased)
