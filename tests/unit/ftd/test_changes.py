"""Changes: written with what they tell of, in order, read from a cursor, forgotten when there are too many."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.parts import PREPARED, opened_database, opened_queue, submit

from ftd.changes import Changes, Page
from ftd.errors import CursorTooOld, InvalidRequest
from ftd.job import Job
from ftd.moves import Ended, Placed
from ftd.queue import Queue
from ftd.records import Outcome
from ftd.spec import JobSpec


def moves(page: Page) -> list[tuple[str, int, int]]:
    """Of each change its job, and the states it went from and to, by number."""
    return [(c.job, c.transition.from_state, c.transition.to_state) for c in page.changes]


async def ended_job(queue: Queue) -> Job:
    job = await submit(queue, JobSpec(labels={"a": "1"}, external_id="x-7"))
    await queue.apply(job.id, PREPARED)
    await queue.apply(job.id, Placed(("cpu",), 1))
    return await queue.apply(job.id, Ended(Outcome.COMPLETED))


async def test_every_move_is_told_once_and_in_order(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        job = await ended_job(queue)
        await queue.delete(job.id)
        page = await queue.changes.after("", 10)
    # New, queued, starting, succeeded; then it is deleted.
    assert moves(page) == [(job.id, 0, 1), (job.id, 1, 2), (job.id, 2, 3), (job.id, 3, 7), (job.id, 0, 0)]
    last, gone = page.changes[-2:]
    assert (last.name, last.project, dict(last.labels), last.external_id) == ("name", "default", {"a": "1"}, "x-7")
    assert (last.revision, last.attempts, last.transition.actor) == (job.revision, 1, "daemon")
    assert (gone.HasField("transition"), gone.delete_time.seconds) == (False, 5)
    assert (page.more, page.cursor) == (False, gone.cursor)


async def test_what_changes_no_state_is_no_change(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        job = await submit(queue)
        before = await queue.changes.now()
        await queue.update(job.id, lambda job: job)
        assert await queue.changes.now() == before


async def test_a_reader_goes_on_from_any_cursor_also_with_the_next_daemon(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        await ended_job(queue)
        whole = await queue.changes.after("", 10)
    async with opened_queue(tmp_path) as queue:
        for index, change in enumerate(whole.changes):
            rest = await queue.changes.after(change.cursor, 10)
            assert rest.changes == whole.changes[index + 1 :]
        first = await queue.changes.after("", 2)
        assert (first.changes, first.more) == (whole.changes[:2], True)
        assert first.cursor == whole.changes[1].cursor


async def test_a_submit_that_made_no_job_tells_of_none(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        once, again = [await submit(queue, request_id="r") for _ in range(2)]
        assert once.id == again.id
        assert len((await queue.changes.after("", 10)).changes) == 1


async def test_a_change_that_is_not_stored_is_not_told(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        job = await submit(queue)
        with pytest.raises(RuntimeError, match="the disk"):
            await queue._store.update(job, await queue.progress(job), *queue.changes.of(None, job), _fail)
        assert len((await queue.changes.after("", 10)).changes) == 1


def _fail(_connection: object) -> None:
    raise RuntimeError("the disk")


async def test_the_oldest_are_forgotten_and_who_missed_them_is_told(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        job = await ended_job(queue)
        early, middle = [(await queue.changes.after("", size)).cursor for size in (1, 2)]
    async with opened_database(tmp_path) as database:
        few = Changes(database, kept=3)
        await database.run(few.of_deleted(job, 9.0))
        assert [change.revision for change in (await few.after("", 10)).changes] == [3, 4, 4]
        assert len((await few.after(middle, 10)).changes) == 3
        with pytest.raises(CursorTooOld, match="1 changes after this cursor are not kept any more; list the jobs"):
            await few.after(early, 10)


async def test_a_cursor_of_another_store_or_of_the_future_is_refused(tmp_path: Path) -> None:
    cursors = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        async with opened_queue(tmp_path / name) as queue:
            await submit(queue)
            cursors.append(await queue.changes.now())
    store, _, number = cursors[1].partition("-")
    async with opened_queue(tmp_path / "other") as queue:
        for cursor in (cursors[0], f"{store}-{int(number) + 1}", f"{store}-", f"{store}--1", "7", "é-²"):
            with pytest.raises(InvalidRequest, match="is none of this daemon's"):
                await queue.changes.after(cursor, 1)
        assert (await queue.changes.after(cursors[1], 1)).changes == ()


async def test_the_next_change_wakes_who_waits(tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        news = queue.changes.news()
        assert not news.is_set()
        job = await submit(queue)
        assert news.is_set()
        waiting = asyncio.create_task(queue.changes.news().wait())
        await asyncio.sleep(0)
        await queue.cancel(job.id, "client")
        async with asyncio.timeout(10):
            await waiting
