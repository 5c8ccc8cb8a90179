"""Keeps the cache of prepared rows within its bound: what was used longest ago goes first, never what a live job needs.

Preparations fill the cache and touch an entry's report when they use it; only the daemon removes one. It must never
remove rows that a job has, or may be about to be told of.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog

from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.queue import Queue
from ftd.records import JobState

# An entry that was used so lately may be that of a preparation whose last word has not been read yet.
_JUST_USED_SECONDS = 600.0
_REPORT = "report.json"
_GONE = ".gone."
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class RowCache:
    """Looks after the cache below `root`, of at most `limit` bytes, whenever a job has been prepared or has ended."""

    def __init__(self, queue: Queue, root: Path, limit: int) -> None:
        self._queue = queue
        self._root = root
        self._limit = limit
        self._wake = asyncio.Event()
        queue.listen(self._heard)

    async def run(self) -> None:
        """Removes what is too much, for ever."""
        while True:
            active = self._queue.active()
            used = {Path(job.prepared_directory).name for job in active if job.prepared_directory}
            removed = await asyncio.to_thread(trim, self._root, self._limit, used, {job.id for job in active})
            if removed:
                log.info("prepared rows removed", entries=len(removed))
            await self._wake.wait()
            self._wake.clear()

    def _heard(self, job: Job) -> None:
        if job.state in TERMINAL or (job.state is JobState.QUEUED and not job.attempts):
            self._wake.set()


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    bytes: int
    used: float


def trim(root: Path, limit: int, used: Collection[str], jobs: Collection[str]) -> list[str]:
    """Removes entries until `limit` bytes are left, and what jobs that are not among `jobs` left half done.

    Answers with the names removed. `used`: names that stay whatever they need.
    """
    entries = []
    for path in root.iterdir() if root.is_dir() else ():
        if path.name.startswith(".") and path.name.rpartition(".")[2] not in jobs:
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                entries.append(_Entry(path, size, (path / _REPORT).stat().st_mtime))
    total, removed = sum(entry.bytes for entry in entries), []
    for entry in sorted(entries, key=lambda entry: entry.used):
        if total <= limit or entry.used > time.time() - _JUST_USED_SECONDS:
            break
        if entry.path.name not in used and _remove(entry):
            total -= entry.bytes
            removed.append(entry.path.name)
    return removed


def _remove(entry: _Entry) -> bool:
    """Whether it was removed: one that a preparation has used meanwhile comes back."""
    gone = entry.path.with_name(f"{_GONE}{entry.path.name}")
    entry.path.rename(gone)
    if (gone / _REPORT).stat().st_mtime > entry.used:
        gone.rename(entry.path)
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True
