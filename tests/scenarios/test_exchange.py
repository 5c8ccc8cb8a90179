"""Of the jobs that can start together, those that finish most jobs per second; nobody else changes places."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, starts

from ftsched.exchange import Entry, exchanged
from ftsched.model import Holding, Plan, Waiting


def started(*waiting: Waiting, holding: tuple[Holding, ...] = ()) -> set[str]:
    """On four idle devices, or on those that are left."""
    found: Plan = decide([gpu(i, jobs=1) for i in range(4)], waiting, holding)
    return {*starts(found)}


def test_a_wide_short_job_goes_before_a_long_one_that_would_leave_devices_idle() -> None:
    """By service the narrow one is first, 200 to 240; but then three devices wait for it."""
    assert started(job("narrow", 60, run=200), job("wide", 60, devices=4, run=60)) == {"wide"}


def test_not_before_jobs_that_finish_more_together() -> None:
    """One job in 60 s, or three in 100."""
    narrow = [job(f"narrow{i}", 60, run=100) for i in range(3)]
    assert started(*narrow, job("wide", 60, devices=4, run=60)) == {"narrow0", "narrow1", "narrow2"}


def test_only_those_give_way_who_must() -> None:
    waiting = [job("a", 60, run=100), job("b", 60, run=110), job("c", 60, run=120)]
    assert started(*waiting, job("wide", 60, devices=2, run=70)) == {"a", "b", "wide"}


def test_who_has_waited_long_gives_way_no_more() -> None:
    assert started(job("narrow", 60, run=200, age=1e5), job("wide", 60, devices=4, run=60)) == {"narrow"}


def test_running_jobs_stay() -> None:
    waiting = [job("narrow", 60, run=200), job("wide", 60, devices=4, run=60)]
    assert started(*waiting, holding=(holds("running", 0, size=60, run=200),)) == {"narrow"}


def test_jobs_of_unknown_length_neither_give_way_nor_ask_for_it() -> None:
    assert started(job("narrow", 60), job("wide", 60, devices=4, run=10_000)) == {"narrow"}
    assert started(job("narrow", 60, run=10_000), job("wide", 60, devices=4)) == {"narrow"}


def test_the_first_blocked_job_stays_before_those_behind_it() -> None:
    entries = [Entry("blocked", "gpu", 4, 10), Entry("narrow", "gpu", 1, 50), Entry("last", "gpu", 1, 60)]
    assert exchanged(entries, {"gpu": 2}) == entries


def test_who_gives_way_may_still_start_beside() -> None:
    a, b, wide = Entry("a", "gpu", 1, 100), Entry("b", "gpu", 2, 200), Entry("wide", "gpu", 3, 90)
    assert exchanged([a, b, wide], {"gpu": 4}) == [a, wide, b]
    assert exchanged([a, b, wide], {}) == [a, b, wide]
