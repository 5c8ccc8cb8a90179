"""Who a process is, when it ends, and that all with one mark are ended and nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ftd.process import MARK, Process, end_marked, identify

Start = Callable[..., "subprocess.Popen[bytes]"]
SLEEP = "import time; print(flush=True); time.sleep(60)"
DETACHED = "import os, time\nif os.fork() == 0:\n os.setsid(); os.fork()\nprint(flush=True); time.sleep(60)"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python code that prints when it is ready; kills what is left."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(code: str = SLEEP, mark: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={MARK: mark})
        processes.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def pinned(pid: int) -> Process:
    identity = identify(pid)
    assert identity is not None
    process = Process.pin(identity)
    assert process is not None
    return process


def test_identity_is_more_than_a_pid(start: Start) -> None:
    first, second = identify(start().pid), identify(start().pid)
    assert first is not None
    assert second is not None
    assert identify(first.pid) == first
    assert Process.pin(replace(first, start_ticks=first.start_ticks - 1)) is None
    assert Process.pin(replace(first, boot_id="another boot")) is None
    assert Process.pin(replace(first, pid=second.pid)) is None
    assert Process.pin(replace(first, pid=0)) is None


def test_a_command_may_be_called_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        mine = identify(os.getpid())
        theirs = identify(process.pid)
        process.kill()
    assert mine is not None
    assert theirs is not None
    # Within a day: the tests themselves may have run for a while.
    assert mine.start_ticks <= theirs.start_ticks < mine.start_ticks + 8_640_000


def test_nobody_has_no_identity(start: Start) -> None:
    process = start()
    identity = identify(process.pid)
    assert identity is not None
    process.kill()
    process.wait()
    assert identify(process.pid) is None
    assert Process.pin(identity) is None


async def test_end_is_seen_and_a_signal_after_it_goes_nowhere(start: Start) -> None:
    child = start()
    process = pinned(child.pid)
    ended = asyncio.create_task(process.ended())
    await asyncio.sleep(0.05)
    assert not ended.done()
    assert not process.ends_within(0)
    process.signal(signal.SIGKILL)
    await asyncio.wait_for(ended, 10)
    assert process.ends_within(0)
    # Taken off the kernel: no zombie is left.
    assert not Path(f"/proc/{child.pid}").exists()
    process.signal(signal.SIGKILL)
    process.close()


def test_ends_all_with_the_mark_and_nobody_else(start: Start) -> None:
    mark = f"test/{os.getpid()}"
    marked = [start(SLEEP, mark), start(DETACHED, mark)]
    others = [start(SLEEP, f"{mark}1"), start(SLEEP, "")]
    assert end_marked(mark, 10)
    assert [process.wait() for process in marked] == [-9, -9]
    assert [process.poll() for process in others] == [None, None]
    assert end_marked(mark, 0)


def test_does_not_wait_for_ever(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be killed: here, one that is not."""
    monkeypatch.setattr(Process, "signal", lambda *_: None)
    mark = f"test/{os.getpid()}"
    start(SLEEP, mark)
    begin = time.monotonic()
    assert not end_marked(mark, 0.1)
    assert time.monotonic() - begin < 5
