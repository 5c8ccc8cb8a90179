"""Starting the processes of one attempt, and finding them again: the port `Launcher` and its only implementation.

`ExecLauncher` starts a keeper that outlives the daemon; a `Handle` follows it by pidfd and answers with an `Exit`,
whatever happened to the keeper. It must never judge a process by its pid alone, and never answer while a process of the
attempt is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM, SIGUSR1
from typing import IO, Protocol

from finetuned.trainer.v1 import trainer_pb2
from ftd import bootstrap
from ftd.bootstrap import Exit, LaunchSettings
from ftd.errors import DiskFull
from ftd.job import Job
from ftd.process import Process, end_marked
from ftd.records import Failure, FailureClass, JobState, Outcome
from ftd.rundir import RunDirectories, RunDirectory

KEEPER = (sys.executable, "-m", "fttrain.keeper")
# How long a thread is given to see killed processes end before it is asked again.
_PASS_SECONDS = 1.0


class Handle(Protocol):
    """An attempt that has been started."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The keeper and its ranks, as far as they are known yet."""

    async def wait(self) -> Exit:
        """Answers when no process of the attempt is left. May be called again. Never raises for a dead keeper."""

    async def stop(self, *, save: bool, keep: bool = False) -> None:
        """Asks the attempt to end at its next step; the keeper escalates. May be repeated; too late is no error.

        With `keep` it writes its output first, and nothing escalates until it is asked to stop without.
        """

    def save(self) -> None:
        """Asks the attempt to save a checkpoint at the end of its step, and to go on. Too late is no error."""


class Launcher(Protocol):
    """Starts attempts. Attempt 0 is the preparation; its `devices` are ("cpu",)."""

    async def start(self, job: Job, attempt: int, devices: Sequence[str]) -> Handle:
        """Starts the attempt. Raises DiskFull, or OSError when no process can be started; nothing is left then."""

    async def reattach(self, job: Job, attempt: int) -> Handle | Exit | None:
        """After a restart of the daemon: the running attempt, how it ended, or None if it never got going."""


class KeeperHandle:
    """Follows one keeper."""

    def __init__(self, run: RunDirectory, attempt: int, process: Process) -> None:
        self._run = run
        self._attempt = attempt
        self._process = process
        self._waiting = asyncio.Lock()
        self._exit: Exit | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """See Handle."""
        keeper = bootstrap.read_keeper(self._run, self._attempt)
        return (self._process.pid, *(keeper.ranks if keeper else ()))

    async def wait(self) -> Exit:
        """See Handle."""
        async with self._waiting:
            if self._exit is None:
                await self._process.ended()
                self._exit = await _conclude(self._run, self._attempt)
                self._process.close()
        return self._exit

    async def stop(self, *, save: bool, keep: bool = False) -> None:
        """See Handle."""
        await asyncio.to_thread(self._write_request, save, keep)
        if self._exit is None:
            self._process.signal(SIGTERM)

    def save(self) -> None:
        """See Handle."""
        if self._exit is None:
            self._process.signal(SIGUSR1)

    def _write_request(self, save: bool, keep: bool) -> None:
        request = trainer_pb2.StopRequest(save=save, keep=keep)
        request.time.FromNanoseconds(time.time_ns())
        # On a full disk the job must end all the same; the keeper then tries to save.
        with contextlib.suppress(DiskFull):
            self._run.write_message(f"attempts/{self._attempt}/stop.json", request)


class ExecLauncher:
    """Starts a fresh interpreter for each process."""

    def __init__(self, directories: RunDirectories, settings: LaunchSettings) -> None:
        self._directories = directories
        self._settings = settings

    async def start(self, job: Job, attempt: int, devices: Sequence[str]) -> Handle:
        """See Launcher."""
        # What a daemon that was killed may have started for the same attempt a moment ago.
        await end_attempt(job.id, attempt)
        return await asyncio.to_thread(self._start, job, attempt, devices)

    async def reattach(self, job: Job, attempt: int) -> Handle | Exit | None:
        """See Launcher."""
        run = self._directories.get(job.id)
        since = _began(job, attempt)
        keeper = bootstrap.read_keeper(run, attempt, since)
        process = Process.pin(keeper.identity) if keeper else None
        if process is not None:
            return KeeperHandle(run, attempt, process)
        # In this order: a keeper that was alive a moment ago has spoken before it ended.
        if (ended := bootstrap.read_exit(run, attempt, since)) is not None:
            return ended
        await end_attempt(job.id, attempt)
        return _lost(attempt) if keeper else None

    def _start(self, job: Job, attempt: int, devices: Sequence[str]) -> KeeperHandle:
        run = self._directories.create(job)
        folder = run.new_attempt(attempt)
        message = bootstrap.build(job, attempt, devices, run, self._settings)
        run.write_message(f"attempts/{attempt}/bootstrap.json", message)
        with (folder / "keeper.log").open("xb") as log:
            return KeeperHandle(run, attempt, _spawn(message, log))


def _spawn(message: trainer_pb2.Bootstrap, log: IO[bytes]) -> Process:
    """Starts the keeper in a session of its own, with nothing of the daemon's but an error log."""
    environment = dict(message.environment)
    return Process.start(KEEPER, message.SerializeToString(), log, environment, Path(message.run_directory))


async def _conclude(run: RunDirectory, attempt: int) -> Exit:
    """The keeper has ended: its last word or, without one, an end to whatever it left and our own word."""
    ended = await asyncio.to_thread(bootstrap.read_exit, run, attempt)
    if ended is not None:
        return ended
    await end_attempt(run.path.name, attempt)
    return _lost(attempt)


async def end_attempt(job_id: str, attempt: int) -> None:
    """Returns when no process of the attempt is left; what cannot die holds memory, and keeps us waiting rightly."""
    while not await asyncio.to_thread(end_marked, bootstrap.mark(job_id, attempt), _PASS_SECONDS):
        continue


def _began(job: Job, attempt: int) -> float:
    """Since when an attempt can have run: every preparation has the number 0, and an earlier one left its files."""
    if attempt:
        return 0.0
    return max((each.time for each in job.transitions if each.to_state is JobState.PREPARING), default=0.0)


def _lost(attempt: int) -> Exit:
    what = f"attempt {attempt}" if attempt else "the preparation"
    failure = Failure(
        FailureClass.WORKER_LOST,
        f"the keeper of {what} is gone and left no word; what it had started was ended",
        f"if nobody killed it, attempts/{attempt}/keeper.log in the run directory may say why; retry the job",
    )
    return Exit(Outcome.FAILED, failure)
