"""The doorbells of run directories: one inotify instance tells everybody who follows a job that its files have grown.

    async with asyncio.TaskGroup() as group:
        group.create_task(doorbells.run())
        with doorbells.bell(run_directory) as bell:      one bell per subscriber
            ... read everything ... await bell.wait()                            something was written since the last
            wait, or a second has passed
    doorbells.ring(run_directory)                        wakes its subscribers, e.g. when the job's state has changed

A bell may ring for nothing; it must never stay silent for longer than a second, so that a lost event, a full table of
watches or a file system without inotify costs that second and no more.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asyncinotify import Inotify, Mask, Watch

_NET_SECONDS = 1.0
_EVENTS = Mask.MODIFY | Mask.CREATE | Mask.MOVED_TO


class Bell:
    """One subscriber's bell: a ring between two waits is not lost."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Ends the present wait, or the next one at once."""
        self._rung.set()

    async def wait(self, seconds: float = _NET_SECONDS) -> None:
        """Returns when it was rung since the last wait, at the latest after `seconds`, which are at most 1."""
        try:
            async with asyncio.timeout(min(seconds, _NET_SECONDS)):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


class Doorbells:
    """All bells of the daemon. Belongs to one event loop; `run` must be running for bells to ring at once."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._bells: defaultdict[Path, set[Bell]] = defaultdict(set)
        self._watches: dict[Path, Watch] = {}

    async def run(self) -> None:
        """Rings for ever. Cancel it to end it."""
        with self._inotify:
            async for event in self._inotify:
                if event.mask & Mask.Q_OVERFLOW:
                    for directory in list(self._bells):
                        self.ring(directory)
                elif event.watch is not None:
                    self.ring(event.watch.path)

    def ring(self, directory: Path) -> None:
        """Rings the bells of one run directory."""
        for bell in self._bells.get(directory, ()):
            bell.ring()

    @contextmanager
    def bell(self, directory: Path) -> Iterator[Bell]:
        """A bell for the files right below `directory`."""
        bell = Bell()
        if directory not in self._watches:
            self._watch(directory)
        self._bells[directory].add(bell)
        try:
            yield bell
        finally:
            self._bells[directory].remove(bell)
            if not self._bells[directory]:
                del self._bells[directory]
                self._unwatch(directory)

    def _watch(self, directory: Path) -> None:
        # Without a watch the bell still rings once a second. ValueError: `run` has ended.
        with suppress(OSError, ValueError):
            self._watches[directory] = self._inotify.add_watch(directory, _EVENTS)

    def _unwatch(self, directory: Path) -> None:
        # OSError: the directory was deleted, and its watch with it.
        with suppress(OSError, ValueError):
            if (watch := self._watches.pop(directory, None)) is not None:
                self._inotify.rm_watch(watch)
