"""Looks at the data of a spec: a preparation without a job, in a folder of its own that goes when the look is over.

Its processes are those that prepare a job, started by the same launcher, so what is seen is what would be trained on.
It must never leave a process or a folder behind, whoever hangs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftd import bootstrap
from ftd.bootstrap import Exit, LaunchSettings, Preview
from ftd.doorbells import Doorbells
from ftd.errors import DataRefused, LookTooLong
from ftd.job import Job
from ftd.launch import ExecLauncher, Handle, end_attempt
from ftd.records import DataReport, Outcome, Progress
from ftd.rundir import RunDirectories
from ftd.supervise import follow

if TYPE_CHECKING:
    from finetuned.v1.data_preview_pb2 import PreviewedRow

PREVIEW_SECONDS = 120.0
CHECK_SECONDS = 4 * 3600.0
PREVIEWS_AT_ONCE = 2


class Looks:
    """All looks of a daemon, below `folder`. `group` holds what ends them."""

    def __init__(
        self,
        folder: Path,
        settings: LaunchSettings,
        doorbells: Doorbells,
        group: asyncio.TaskGroup,
        checks_at_once: int,
    ) -> None:
        self._directories = RunDirectories(folder)
        self._settings = settings
        self._doorbells = doorbells
        self._group = group
        self._previews = asyncio.Semaphore(PREVIEWS_AT_ONCE)
        self._checks = asyncio.Semaphore(checks_at_once)

    async def clear(self) -> None:
        """Ends what an earlier daemon left."""
        for left in self._directories.root.glob("*"):
            await end_attempt(left.name, 0)
            await asyncio.to_thread(self._directories.delete, left.name)

    async def preview(self, job: Job, wanted: Preview) -> Sequence[PreviewedRow]:
        """Rows as the job would train on them. Raises DataRefused, LookTooLong."""
        async with self._previews, self._look(job, wanted, PREVIEW_SECONDS, lambda _: None):
            return await asyncio.to_thread(bootstrap.read_previewed, self._directories.get(job.id))

    async def check(self, job: Job, on_progress: Callable[[Progress], None]) -> DataReport:
        """The report of the job's data, whose rows stay prepared. Raises DataRefused, LookTooLong."""
        async with self._checks, self._look(job, None, CHECK_SECONDS, on_progress) as ended:
            return ended.report or DataReport()

    @asynccontextmanager
    async def _look(
        self, job: Job, preview: Preview | None, seconds: float, on_progress: Callable[[Progress], None]
    ) -> AsyncIterator[Exit]:
        """A preparation from its start to its end; its folder is there as long as the block runs."""
        launcher = ExecLauncher(self._directories, replace(self._settings, preview=preview))
        # A task: who is cancelled while it starts must still know what was started.
        starting = self._group.create_task(_quietly(launcher.start(job, 0, ("cpu",))))
        try:
            async with asyncio.timeout(seconds):
                handle = await asyncio.shield(starting)
                if isinstance(handle, Exception):
                    raise handle
                ended = await follow(
                    self._directories.get(job.id),
                    0,
                    handle,
                    self._doorbells,
                    on_progress=on_progress,
                    on_started=_nothing,
                )
            if ended.failure is not None or ended.outcome is not Outcome.COMPLETED:
                raise DataRefused(ended.failure)
            yield ended
        except TimeoutError:
            raise LookTooLong(seconds) from None
        finally:
            await asyncio.shield(self._group.create_task(self._end(starting, job.id)))

    async def _end(self, starting: asyncio.Task[Handle | Exception], job_id: str) -> None:
        """Asks what runs to stop, so that it takes away what it has half written, and removes the folder."""
        handle = await starting
        if not isinstance(handle, Exception):
            await handle.stop(save=False)
            await handle.wait()
        with suppress(OSError):
            await asyncio.to_thread(self._directories.delete, job_id)


async def _nothing() -> None:
    """A preparation has no first word."""


async def _quietly(start: Awaitable[Handle]) -> Handle | Exception:
    """What was started, or why nothing was: an error in a task of the daemon's group would end the daemon."""
    try:
        return await start
    except Exception as error:
        # It is raised where it is awaited.
        return error
