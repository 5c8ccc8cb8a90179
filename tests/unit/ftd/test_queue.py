"""The hub: one change at a time per job, on disk before it is told, and every wish answered in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.parts import ESTIMATE, PREPARED, opened_queue, submit

from ftd.draft import draft, new_id
from ftd.errors import (
    InvalidRequest,
    InvalidSpec,
    JobAmbiguous,
    JobFinished,
    JobNotFound,
    RequestIdReused,
    TooMuch,
    WrongState,
)
from ftd.intake import Accepted
from ftd.job import Job
from ftd.moves import Ended, Placed, Waits
from ftd.queue import Queue
from ftd.records import JobState, Outcome, Progress, Reason, ReasonCode
from ftd.spec import JobSpec, Output, TrainingSpec
from ftd.store import Filter


@pytest_asyncio.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    async with opened_queue(tmp_path) as queue:
        yield queue


async def test_a_submitted_job_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        job = await submit(queue, JobSpec(priority=3, max_retries=0, labels={"a": "b"}))
    assert (job.state, job.priority, job.max_retries, job.labels) == (JobState.PREPARING, 3, 0, {"a": "b"})
    assert (tmp_path / "runs" / job.id).is_dir()
    async with opened_queue(tmp_path) as queue:
        assert queue.active() == [job]
        assert await queue.find(job.id) == job


async def test_a_held_job_waits_for_its_resume(queue: Queue) -> None:
    job = await submit(queue, JobSpec(hold=True))
    assert (job.state, job.reason.code) == (JobState.PAUSED, ReasonCode.HELD)
    assert (await queue.resume(job.id, "client")).state is JobState.PREPARING


async def test_the_output_lies_where_the_spec_says(queue: Queue, tmp_path: Path) -> None:
    assert (await submit(queue)).output_path.startswith(str(tmp_path / "runs"))
    training = TrainingSpec(output=Output(path="/out/here"))
    job = await queue.submit(draft(JobSpec(), Accepted("n", "p", training, ESTIMATE), queue.runs, 5.0))
    assert job.output_path == "/out/here"


async def test_one_request_makes_one_job_and_one_directory(queue: Queue, tmp_path: Path) -> None:
    jobs = await asyncio.gather(*(submit(queue, request_id="r") for _ in range(10)))
    assert len({job.id for job in jobs}) == 1
    assert [each.name for each in (tmp_path / "runs").iterdir()] == [jobs[0].id]
    assert await queue.submitted("r", JobSpec()) == jobs[0]
    with pytest.raises(RequestIdReused, match="differ in priority"):
        await submit(queue, JobSpec(priority=1), "r")
    assert len(list((tmp_path / "runs").iterdir())) == 1


async def test_more_jobs_than_the_limit_are_refused(tmp_path: Path) -> None:
    async with opened_queue(tmp_path, active_jobs=1) as queue:
        job = await submit(queue)
        with pytest.raises(TooMuch, match="1 jobs have not ended, which is this daemon's limit"):
            await submit(queue)
        await queue.apply(job.id, Ended(Outcome.FAILED))
        await submit(queue)


async def test_listeners_hear_of_a_change_when_it_is_on_disk(queue: Queue, tmp_path: Path) -> None:
    heard: list[JobState] = []
    queue.listen(lambda job: heard.append(job.state))
    job = await submit(queue)
    await queue.apply(job.id, PREPARED)
    await queue.apply(job.id, Placed(("cpu",), 1))
    await queue.apply(job.id, Ended(Outcome.COMPLETED))
    assert heard == [JobState.PREPARING, JobState.QUEUED, JobState.STARTING, JobState.SUCCEEDED]
    assert queue.active() == []
    assert (await queue.get(job.id)).state is JobState.SUCCEEDED


async def test_changes_at_once_follow_each_other(queue: Queue) -> None:
    job = await submit(queue)
    answers = await asyncio.gather(
        queue.apply(job.id, PREPARED),
        queue.pause(job.id, "client"),
        queue.resume(job.id, "client"),
        queue.update(job.id, lambda job: replace(job, priority=5)),
        queue.cancel(job.id, "client"),
        queue.cancel(job.id, "client"),
        return_exceptions=True,
    )
    assert [type(each) for each in answers] == [Job, Job, Job, Job, Job, JobFinished]
    ended = await queue.get(job.id)
    assert (ended.state, ended.priority, ended.revision) == (JobState.CANCELLED, 5, 6)


async def test_a_caller_that_goes_away_leaves_disk_and_memory_the_same(queue: Queue) -> None:
    job = await submit(queue)
    task = asyncio.create_task(queue.apply(job.id, PREPARED))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await queue.close()
    (known,) = queue.active()
    ((stored,), _) = await queue.list(Filter(), 1)
    assert known == stored
    assert known.state is JobState.QUEUED


async def test_the_progress_of_a_job_outlives_it(queue: Queue) -> None:
    job = await submit(queue)
    queue.progressed(job.id, Progress(step=7))
    assert await queue.progress(job) == Progress(step=7)
    job = await queue.apply(job.id, Ended(Outcome.FAILED))
    assert await queue.progress(job) == Progress(step=7)


async def test_wishes_that_cannot_be_are_refused_in_words(queue: Queue) -> None:
    job = await submit(queue)
    with pytest.raises(WrongState, match=f"cannot resume job {job.id}: it is preparing; resume needs a job .* paused"):
        await queue.resume(job.id, "client")
    with pytest.raises(WrongState, match="retry needs a job that is failed or cancelled"):
        await queue.retry(job.id, "client")
    with pytest.raises(WrongState, match="delete needs a job that is succeeded, failed or cancelled"):
        await queue.delete(job.id)
    await queue.apply(job.id, Ended(Outcome.FAILED))
    with pytest.raises(JobFinished, match=f"job {job.id} has already ended: failed"):
        await queue.cancel(job.id, "client")
    assert (await queue.retry(job.id, "client")).state is JobState.PREPARING


async def test_a_job_is_named_by_id_prefix_or_name(queue: Queue) -> None:
    job = await submit(queue, name="only")
    twins = [await submit(queue, name="twin") for _ in range(2)]
    assert await queue.find(job.id[:6]) == job
    assert await queue.find("only") == job
    with pytest.raises(JobAmbiguous, match=f"'twin' names 2 jobs: {twins[1].id}, {twins[0].id}; give a longer prefix"):
        await queue.find("twin")
    with pytest.raises(JobNotFound, match="no job has the id, id prefix or name 'other'"):
        await queue.find("other")
    with pytest.raises(InvalidRequest, match="job is missing"):
        await queue.find("")


async def test_priority_and_labels_are_replaced_and_checked(queue: Queue) -> None:
    job = await submit(queue, JobSpec(labels={"a": "1"}))
    changed = await queue.update(job.id, lambda job: replace(job, priority=-7, labels={"b": "2"}))
    assert (changed.priority, changed.labels, changed.spec.labels) == (-7, {"b": "2"}, {"a": "1"})
    with pytest.raises(InvalidSpec, match="priority"):
        await queue.update(job.id, lambda job: replace(job, priority=1000))


async def test_a_deleted_job_is_gone_with_its_files(queue: Queue, tmp_path: Path) -> None:
    job = await submit(queue)
    await queue.cancel(job.id, "client")
    await queue.apply(job.id, Ended(Outcome.STOPPED))
    await queue.delete(job.id)
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(JobNotFound):
        await queue.get(job.id)


async def test_pages_go_on_where_they_ended(queue: Queue) -> None:
    jobs = [await submit(queue) for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page, token = await queue.list(Filter(), 2, token)
        seen += [job.id for job in page]
        if not token:
            break
        await submit(queue)  # a newer job moves nobody
    assert seen == [job.id for job in reversed(jobs)]
    _, token = await queue.list(Filter(), 2)
    for wrong in (token, "nonsense", "9-", "-"):
        with pytest.raises(InvalidRequest, match="page_token is not one of this list"):
            await queue.list(Filter(project="another"), 2, wrong)


async def test_the_same_reason_to_wait_is_stored_once(queue: Queue) -> None:
    job = await submit(queue)
    await queue.apply(job.id, PREPARED)
    reason = Reason(ReasonCode.BEHIND_OTHER_JOBS, "1 job is before it")
    first = await queue.apply(job.id, Waits(reason))
    assert await queue.apply(job.id, Waits(reason)) is first


def test_ids_are_easy_to_read_and_type() -> None:
    for _ in range(100):
        id_ = new_id()
        assert len(id_) == 10
        assert id_[0].isalpha()
        assert not set(id_) & set("01ilo")
