"""What bounds a look at data: its time, how many there are at once, and processes that cannot be started."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.attempts import FAKE
from tests.support.jobs import JOB_ID, fake_job

from ftd import looks
from ftd.bootstrap import LaunchSettings, Preview, mark
from ftd.doorbells import Doorbells
from ftd.errors import DataRefused, LookTooLong
from ftd.looks import Looks
from ftd.process import end_marked

COMMAND = (sys.executable, str(FAKE))
FIRST = Preview("data.train[0]", 0, 1)


@asynccontextmanager
async def looking(tmp_path: Path, command: tuple[str, ...] = COMMAND) -> AsyncIterator[Looks]:
    settings = LaunchSettings(tmp_path, command, command, False, False, 1.0, 1.0, 1, "0.1.0")
    doorbells = Doorbells()
    async with asyncio.TaskGroup() as group:
        ringing = group.create_task(doorbells.run())
        yield Looks(tmp_path / "looks", settings, doorbells, group, 1)
        ringing.cancel()
    assert list((tmp_path / "looks").glob("*")) == []
    assert end_marked(mark(JOB_ID, 0), 0)


async def test_a_preview_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "PREVIEW_SECONDS", 1.0)
    job = fake_job(tmp_path, {"prepare": {"steps": 1000, "step_seconds": 0.1, "ignore_stop": True}})
    async with looking(tmp_path) as looked:
        with pytest.raises(LookTooLong, match="ended after 1 s"):
            await looked.preview(job, FIRST)


async def test_checks_wait_for_each_other(tmp_path: Path) -> None:
    # Each has data of its own: a fake reads beside them what it is to do, and it may come to that late.
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    slow.mkdir()
    quick.mkdir()
    job = fake_job(slow, {"prepare": {"steps": 1000, "step_seconds": 0.1}})
    async with looking(tmp_path) as looked:
        first = asyncio.create_task(looked.check(job, lambda _: None))
        while not (tmp_path / "looks" / JOB_ID).exists():
            await asyncio.sleep(0.01)
        other = fake_job(quick, {})
        waiting = asyncio.create_task(looked.check(other, lambda _: None))
        assert not (await asyncio.wait([waiting], timeout=0.5))[0]
        first.cancel()
        assert (await waiting).train.rows == 64


async def test_processes_that_cannot_be_started_refuse_the_look_and_nothing_else(tmp_path: Path) -> None:
    async with looking(tmp_path, ("/nowhere/python",)) as looked:
        with pytest.raises(DataRefused, match="the trainer could not be started"):
            await looked.check(fake_job(tmp_path, {}), lambda _: None)
