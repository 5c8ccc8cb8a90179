"""Following an attempt whose processes are not real: the order of what is called back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from finetuned.v1 import event_pb2
from ftd.bootstrap import Exit
from ftd.doorbells import Doorbells
from ftd.records import Outcome, Progress
from ftd.rundir import RunDirectory
from ftd.supervise import follow
from fttrain.journal import JournalWriter


class FakeHandle:
    """An attempt that ends when the test says so."""

    pids = (1, 2)

    def __init__(self) -> None:
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await self.exit

    async def stop(self, *, save: bool, keep: bool = False) -> None:
        self.exit.set_result(Exit(Outcome.STOPPED))


class Story:
    """What was called back."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def progress(self, progress: Progress) -> None:
        self.lines.append(f"step {progress.step} of seq {progress.last_seq}")

    async def started(self) -> None:
        self.lines.append("started")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def step(attempt: int, number: int) -> event_pb2.TrainingEvent:
    return event_pb2.TrainingEvent(attempt=attempt, step=event_pb2.StepMetrics(step=number))


def write(run: RunDirectory, *events: event_pb2.TrainingEvent) -> None:
    with JournalWriter(run.events_path) as journal:
        for event in events:
            journal.append(event)


async def begin(run: RunDirectory, attempt: int) -> tuple[FakeHandle, Story, asyncio.Task[Exit]]:
    handle, story = FakeHandle(), Story()
    following = follow(run, attempt, handle, Doorbells(), on_progress=story.progress, on_started=story.started)
    return handle, story, asyncio.create_task(following)


async def test_an_earlier_attempt_is_progress_but_no_first_word(run: RunDirectory) -> None:
    write(run, step(1, 7))
    handle, story, following = await begin(run, 2)
    await asyncio.sleep(0.1)
    assert story.lines == ["step 7 of seq 1"]
    write(run, step(2, 8))
    handle.exit.set_result(Exit(Outcome.COMPLETED))
    assert (await following).outcome is Outcome.COMPLETED
    assert story.lines == ["step 7 of seq 1", "step 8 of seq 2", "started"]


async def test_a_preparation_has_no_first_word(run: RunDirectory) -> None:
    handle, story, following = await begin(run, 0)
    write(run, step(0, 1))
    handle.exit.set_result(Exit(Outcome.COMPLETED))
    await following
    assert story.lines == ["step 1 of seq 1"]


async def test_an_end_is_answered_at_once(run: RunDirectory) -> None:
    handle, _, following = await begin(run, 1)
    await asyncio.sleep(0.1)
    start = time.monotonic()
    await handle.stop(save=False)
    assert (await following).outcome is Outcome.STOPPED
    assert time.monotonic() - start < 0.5


async def test_a_damaged_journal_does_not_hide_the_end(run: RunDirectory) -> None:
    write(run, step(1, 1), step(1, 2), step(1, 3))
    content = bytearray(run.events_path.read_bytes())
    content[len(content) // 2] ^= 1
    run.events_path.write_bytes(content)
    handle, story, following = await begin(run, 1)
    await asyncio.sleep(0.1)
    handle.exit.set_result(Exit(Outcome.FAILED))
    assert (await following).outcome is Outcome.FAILED
    assert story.lines == ["step 1 of seq 1", "started"]


async def test_cancelling_leaves_the_attempt_alone(run: RunDirectory) -> None:
    handle, _, following = await begin(run, 1)
    await asyncio.sleep(0.1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert handle.exit.cancelled() or not handle.exit.done()
