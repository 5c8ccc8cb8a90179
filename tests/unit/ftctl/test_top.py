"""`ftctl top`: its rows, its keys against the fake daemon, and the whole screen on a terminal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support import queue
from tests.support.client import START, job, training_events
from tests.support.terminal import Terminal
from tests.unit.ftctl.conftest import Run, same_as_golden
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from finetuned.v1 import job_pb2, job_service_pb2
from ftclient import Client
from ftctl.top import model
from ftctl.top.app import Top
from ftctl.top.widgets import OneJob, Question

M = TypeVar("M")


@pytest.fixture
def host(daemon: FakeDaemon) -> FakeDaemon:
    """A busy host: a job that runs, three that wait, one that is held, one that has ended."""
    daemon.host, daemon.queued = queue.host(), queue.queued()
    held, ended = job("PAUSED", step=0), job("SUCCEEDED", step=10)
    held.id, held.name = "p1qrstuvwx", "held-one"
    held.reason.message = "held by maria"
    ended.id, ended.name = "e9nopqrstu", "done-one"
    ended.end_time.seconds = int(time.time()) - 3 * 86400 - 1800
    waiting = []
    for queued in daemon.queued:
        made = job_pb2.Job(id=queued.job, name=queued.name, state=job_pb2.JOB_STATE_QUEUED)
        made.reason.CopyFrom(queued.reason)
        waiting.append(made)
    daemon.jobs = {made.id: made for made in (ended, held, *reversed(waiting), job("RUNNING"))}
    daemon.events["k7m2p9x4qd"] = training_events(10)
    return daemon


@asynccontextmanager
async def top(host: FakeDaemon, width: int = 80, height: int = 24) -> AsyncIterator[Pilot[None]]:
    """The program with a first look taken; it takes the next one only when it is asked to."""
    app = Top(lambda: Client(host.address, patience=5), period=3600)
    async with app.run_test(size=(width, height)) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Lets what was begun come to its end, and what that begins."""
    for _ in range(2):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def shown(pilot: Pilot[None], part: str) -> str:
    return str(pilot.app.query_one(part, Static).content)


def names(pilot: Pilot[None]) -> list[str]:
    return [str(cell) for cell in pilot.app.query_one(DataTable).get_column_at(1)]


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settled(pilot)


def heard(host: FakeDaemon, kind: type[M]) -> list[M]:
    return [request for request in host.requests if isinstance(request, kind)]


async def test_jobs_that_run_come_first_then_the_queue(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        assert names(pilot) == ["support-v3", "dpo-1", "support-v4-with-a…", "night-run", "held-one"]
        assert "2 running" in shown(pilot, "#head")
        await press(pilot, "a")
        assert names(pilot)[-1] == "done-one"
        await press(pilot, "a")
        assert names(pilot)[-1] == "held-one"
    assert [request.page_size for request in heard(host, job_service_pb2.ListJobsRequest)] == [100, model.ENDED]


async def test_the_job_under_the_cursor_is_told_whole(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        assert "GPU 0: 20.0 GiB of 24.0 GiB reserved" in shown(pilot, "#detail")
        await press(pilot, "j")
        told = shown(pilot, "#detail")
        assert "9.0 GiB held by pid 4711 (python), not ours" in told
        assert "needs 1 × 31.2 GiB, waits for k7m2p9x4qd; starts in 2 h (1–3 h)" in told


async def test_a_job_is_cancelled_only_after_a_yes(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        await press(pilot, "c")
        assert isinstance(pilot.app.screen, Question)
        await press(pilot, "n")
        assert heard(host, job_service_pb2.CancelJobRequest) == []
        await press(pilot, "c", "s")
        await press(pilot, "c", "y")  # The cursor is on the next job now.
    asked = heard(host, job_service_pb2.CancelJobRequest)
    assert [(request.job, request.save) for request in asked] == [("k7m2p9x4qd", True), ("w2abcdefgh", False)]


async def test_a_waiting_job_is_held_and_released(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        await press(pilot, "down", "h")
        assert host.jobs["w2abcdefgh"].state == job_pb2.JOB_STATE_PAUSED
        host.queued = host.queued[1:]
        await press(pilot, "r")
        assert pilot.app.query_one(DataTable).cursor_row == names(pilot).index("dpo-1")
        await press(pilot, "h")
    assert host.jobs["w2abcdefgh"].state == job_pb2.JOB_STATE_QUEUED


async def test_a_refusal_is_told(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        await press(pilot, "h")
        (told,) = pilot.app._notifications
        assert told.severity == "error"
        assert "cannot hold job k7m2p9x4qd: it is running" in told.title


async def test_a_job_is_moved_to_the_front(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        await press(pilot, "j", "j", "f")
    assert host.jobs["q4zyxwvuts"].front


async def test_a_job_is_opened_and_left(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        await press(pilot, "enter")
        opened = pilot.app.screen
        assert isinstance(opened, OneJob)
        while opened._view.step is None:
            await pilot.pause(0.05)
        assert opened._view.step.step <= 10
        await press(pilot, "enter", "a", "c", "n")
        assert pilot.app.screen is opened
        await press(pilot, "h")
        assert "it is running" in next(iter(pilot.app._notifications)).title
        await press(pilot, "q")
        assert names(pilot)[0] == "support-v3"


async def test_what_was_seen_stays_while_the_daemon_is_away(host: FakeDaemon) -> None:
    async with top(host) as pilot:
        host.stop()
        await press(pilot, "r")
        assert shown(pilot, "#head").startswith("no answer, shown as of ")
        assert names(pilot)[0] == "support-v3"
        host._start()
        await press(pilot, "r")
        assert shown(pilot, "#head").startswith("gpu1")


async def test_a_host_with_nothing(daemon: FakeDaemon) -> None:
    daemon.host.inventory = "nvml: driver not loaded"
    async with top(daemon) as pilot:
        assert names(pilot) == []
        assert "the host offers no device; inventory: nvml: driver not loaded" in shown(pilot, "#devices")
        await press(pilot, "c", "h", "f", "enter", "j")
        assert shown(pilot, "#detail") == "no job"


@pytest.mark.parametrize("width", [80, 100, 140])
async def test_other_columns_have_room_in_a_wider_terminal(host: FakeDaemon, width: int) -> None:
    async with top(host) as pilot:
        await pilot.resize_terminal(width, 30)
        await settled(pilot)
        table = pilot.app.query_one(DataTable)
        assert [str(column.label) for column in table.ordered_columns] == model.columns(width)
        assert table.virtual_size.width <= width


@pytest.mark.parametrize(
    ("state", "seconds", "expected"),
    [("RUNNING", 0, "ends in 58s"), ("PAUSED", 0, "-"), ("SUCCEEDED", 95, "1m35s ago")],
)
def test_when_a_job_ends(state: str, seconds: int, expected: str) -> None:
    from ftclient import Job
    from ftclient.wire import read

    made = job(state)
    made.end_time.seconds = START
    now = datetime.fromtimestamp(START + seconds, UTC)
    assert model._eta(read(Job, made), None, now) == expected


def test_a_pipe_is_refused(ftctl: Run) -> None:
    done = ftctl("top")
    assert done.code == 2
    assert "top needs a terminal; in a pipe use ftctl gpus" in done.err


@pytest.mark.parametrize(("width", "height", "leave"), [(80, 24, "q"), (120, 40, "\x03")])
def test_on_a_terminal(host: FakeDaemon, width: int, height: int, leave: str) -> None:
    with Terminal("top", width=width, height=height, environ={"FTD_ADDRESS": host.address}) as terminal:
        parts = ("931 GiB free", "CPU ", "held-one", "24.0 GiB reserved", "Quit")
        terminal.until(lambda lines: all(part in "\n".join(lines) for part in parts))
        same_as_golden(f"top-{width}x{height}", "\n".join(terminal.settled()) + "\n")
        terminal.type(leave)
        assert terminal.ended() == 0


def test_nobody_answers(on_terminal: Callable[[int], None], ftctl: Run, daemon: FakeDaemon) -> None:
    on_terminal(80)
    daemon.stop()
    done = ftctl("top")
    daemon._start()
    assert done.code == 5
    assert "error:" in done.err
