"""Following one attempt from its first word to its end. It must never decide what the job does next: it calls back.

The answer of `follow` is the attempt's `Exit`; the queue applies `Prepared` or `Ended`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ftd.bootstrap import Exit
from ftd.doorbells import Doorbells
from ftd.journal import JournalCorrupt, JournalReader, Run
from ftd.launch import Handle
from ftd.records import Progress
from ftd.report import fold, started
from ftd.rundir import RunDirectory

# Called with every new fold of the journal, often: it must be quick.
OnProgress = Callable[[Progress], None]
# Awaited once, when a trainer (attempt >= 1) has said its first word: the queue applies `Running`.
OnStarted = Callable[[], Awaitable[None]]

_RECORDS = 1024
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def follow(
    run: RunDirectory,
    attempt: int,
    handle: Handle,
    doorbells: Doorbells,
    *,
    on_progress: OnProgress,
    on_started: OnStarted,
) -> Exit:
    """Follows an attempt to its end. Both callbacks have seen all the journal says before it returns."""
    follower = _Follower(run, attempt, on_progress, on_started)
    with doorbells.bell(run.path) as bell:
        ending = asyncio.create_task(handle.wait())
        ending.add_done_callback(lambda _: bell.ring())
        try:
            while not ending.done():
                await follower.catch_up()
                await bell.wait()
        finally:
            ending.cancel()
        await follower.catch_up()
    return ending.result()


async def progress_of(run: RunDirectory) -> Progress:
    """Where a job stands that nobody follows: one that ended before the daemon was started."""
    follower = _Follower(run, 0, lambda _: None, None)
    await follower.catch_up()
    return follower.progress


class _Follower:
    """Reads a job's events up to their end, again and again, from where it was."""

    def __init__(self, run: RunDirectory, attempt: int, on_progress: OnProgress, on_started: OnStarted | None) -> None:
        self.progress = Progress()
        self._reader = JournalReader(run.events_path)
        self._job_id = run.path.name
        self._attempt = attempt
        self._on_progress = on_progress
        # None: nobody waits for the first word, or it has been said.
        self._on_started = on_started if attempt else None
        self._readable = True

    async def catch_up(self) -> None:
        """Takes in all there is now."""
        while (records := await self._fetch()).count:
            try:
                self.progress = fold(self.progress, records)
                spoke = self._on_started is not None and started(records, self._attempt)
            except JournalCorrupt as error:
                self._give_up(error)
                return
            self._on_progress(self.progress)
            if self._on_started is not None and spoke:
                on_started, self._on_started = self._on_started, None
                await on_started()

    async def _fetch(self) -> Run:
        """The next records. A damaged journal has no more of them, but the attempt goes on and has its end."""
        try:
            if self._readable:
                return await self._reader.fetch(self.progress.last_seq, _RECORDS)
        except JournalCorrupt as error:
            self._give_up(error)
        return Run(b"", self.progress.last_seq + 1, 0, at_end=True)

    def _give_up(self, error: Exception) -> None:
        self._readable = False
        log.warning("a journal is damaged", job=self._job_id, error=str(error))
