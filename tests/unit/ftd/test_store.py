"""Jobs as rows: what goes in comes out, whole; what is searched is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.jobs import fake_job

from ftd.database import Database
from ftd.errors import RequestIdReused
from ftd.job import Job, apply
from ftd.moves import Ended, PauseRequested, Placed, Prepared, Running
from ftd.records import (
    DataReport,
    DroppedRow,
    Failure,
    FailureClass,
    JobState,
    MemoryEstimate,
    MemoryTerm,
    Outcome,
    Phase,
    Progress,
    SourceReport,
    SplitReport,
)
from ftd.store import MIGRATIONS, Filter, Store

ESTIMATE = MemoryEstimate((MemoryTerm("weights", 5, "bf16"),), 10, 12, "layer", 0.1, 128, "test")
REPORT = DataReport(
    train=SplitReport(rows=3), sources=(SourceReport("/d", rows_read=4),), dropped=(DroppedRow(0, 2, "empty"),)
)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    database = Database(tmp_path / "ftd.db", MIGRATIONS)
    await database.open()
    yield Store(database)
    await database.close()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return fake_job(tmp_path, {})


def named(job: Job, number: int, **fields: object) -> Job:
    return replace(job, id=f"j{number:09d}".replace("0", "a").replace("1", "b"), **fields)


async def test_a_job_comes_back_as_it_went_in(store: Store, job: Job) -> None:
    failure = Failure(FailureClass.WORKER_KILLED, "killed by signal 9", "retry", 1)
    events = [
        Prepared(REPORT, "/prepared/x", ESTIMATE),
        Placed(("GPU-1", "GPU-2"), 12),
        Running(),
        Ended(Outcome.FAILED, failure, "checkpoint-4", 7),
        Placed(("GPU-1",), 12),
        PauseRequested(),
    ]
    await store.insert(job)
    for now, event in enumerate(events, start=2):
        job = apply(job, event, now + 0.25)
    progress = Progress(Phase.TRAINING, 4, 9, 0.5, loss=2.5, last_seq=17)
    await store.update(job, progress)
    stored = await store.get(job.id)
    assert stored is not None
    assert (stored.job, stored.progress) == (job, progress)
    assert stored.job.stop_goal is JobState.PAUSED


async def test_the_same_request_is_the_same_job_even_all_at_once(store: Store, job: Job) -> None:
    jobs = [named(job, n, request_id="r") for n in range(20)]
    answers = await asyncio.gather(*(store.insert(each) for each in jobs))
    assert {answer.id for answer in answers} == {jobs[0].id}
    assert await store.ids() == {jobs[0].id}


async def test_the_same_request_with_another_spec_is_refused_with_what_differs(store: Store, job: Job) -> None:
    first = named(job, 1, request_id="r")
    await store.insert(first)
    other = replace(job.spec, priority=3, training=replace(job.spec.training, seed=7))
    with pytest.raises(RequestIdReused, match=rf"already made job {first.id} .* differ in priority, training.seed"):
        await store.insert(named(job, 2, request_id="r", spec=other))
    assert await store.submitted("r", job.spec) == first
    assert await store.submitted("another", job.spec) is None


async def test_without_a_request_id_every_submit_is_a_job(store: Store, job: Job) -> None:
    for n in range(3):
        await store.insert(named(job, n))
    assert len(await store.ids()) == 3


async def test_a_job_is_found_by_id_prefix_or_name(store: Store, job: Job) -> None:
    for id_, name in (("abcdefgh22", "x"), ("abcdefgh33", "y"), ("kkkkkkkkkk", "abcdefgh22"), ("mmmmmmmmmm", "twin")):
        await store.insert(replace(job, id=id_, name=name))
    await store.insert(replace(job, id="nnnnnnnnnn", name="twin"))
    assert await store.matching("abcdefgh22") == ["abcdefgh22"]  # an exact id wins over a name
    assert await store.matching("abcdefgh") == ["abcdefgh33", "abcdefgh22"]
    assert await store.matching("y") == ["abcdefgh33"]
    assert await store.matching("twin") == ["nnnnnnnnnn", "mmmmmmmmmm"]
    assert await store.matching("%") == []


async def test_pages_and_filters(store: Store, job: Job) -> None:
    jobs = []
    for n in range(6):
        fields = {
            "project": "odd" if n % 2 else "even",
            "labels": {"team": "a", "n": str(n)} if n < 3 else {},
            "state": JobState.FAILED if n == 5 else JobState.QUEUED,
            "spec": replace(job.spec, external_id=f"run-{n}"),
        }
        jobs.append(named(job, n, **fields))
        await store.insert(jobs[-1])

    async def numbers(chosen: Filter, size: int = 10, before: int | None = None) -> list[int]:
        return [jobs.index(stored.job) for stored in await store.page(chosen, size, before)]

    assert await numbers(Filter()) == [5, 4, 3, 2, 1, 0]
    (_, second) = await store.page(Filter(), 2, None)
    assert await numbers(Filter(), 2, second.number) == [3, 2]
    assert await numbers(Filter(project="odd", states=(JobState.QUEUED,))) == [3, 1]
    assert await numbers(Filter(labels={"team": "a", "n": "1"})) == [1]
    assert await numbers(Filter(labels={"team": "b"})) == []
    assert await numbers(Filter(external_id="run-4")) == [4]
    assert [stored.job for stored in await store.active()] == jobs[:5]


async def test_labels_are_replaced_and_go_with_the_job(store: Store, job: Job) -> None:
    await store.insert(replace(job, labels={"a": "1"}))
    await store.update(replace(job, labels={"b": "2"}), Progress())
    assert await store.page(Filter(labels={"a": "1"}), 9, None) == []
    assert len(await store.page(Filter(labels={"b": "2"}), 9, None)) == 1
    await store.delete(job.id)
    assert await store.get(job.id) is None
    assert await store.page(Filter(labels={"b": "2"}), 9, None) == []


async def test_a_store_that_had_a_job_is_not_new(store: Store, job: Job) -> None:
    assert await store.is_new()
    await store.insert(job)
    await store.delete(job.id)
    assert not await store.is_new()
