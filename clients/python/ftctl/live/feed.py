"""A job's three streams as one: each is read in a thread of its own, and all come out of one queue."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from ftclient import Client, FtError, Job
from ftctl.live.model import Update

# Lines of log to begin with.
TAIL = 50
# Updates that may wait to be drawn; a stream that is faster than the screen waits then.
WAITING = 1024

_END = object()


class Feed:
    """Starts reading at once. `next` gives what has come; `finished` tells when all streams have ended.

    Who stops reading before that closes the client, and then the feed.
    """

    def __init__(self, client: Client, job: Job) -> None:
        self._queue: queue.Queue[object] = queue.Queue(maxsize=WAITING)
        sources: tuple[Callable[[], Iterator[Update]], ...] = (
            lambda: _watched(client, job),
            lambda: client.metrics(job.id),
            lambda: client.logs(job.id, tail=TAIL),
        )
        self._open = len(sources)
        self._closed = False
        for source in sources:
            # They end with the streams, and those with the client; the program does not wait for them.
            threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: Callable[[], Iterator[Update]]) -> None:
        try:
            for update in source():
                self._queue.put(update)
                if self._closed:
                    return
        except FtError as error:
            self._queue.put(error)
        self._queue.put(_END)

    def close(self) -> None:
        """Lets threads go that wait for room."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    @property
    def finished(self) -> bool:
        """Whether there is no more to come."""
        return self._open == 0

    def next(self, timeout: float) -> Iterator[Update]:
        """What has come, after waiting at most `timeout` seconds for a first. Raises the error of a stream."""
        try:
            item = self._queue.get(timeout=timeout)
            while True:
                if item is _END:
                    self._open -= 1
                elif isinstance(item, FtError):
                    raise item
                else:
                    yield item  # type: ignore[misc]
                item = self._queue.get_nowait()
        except queue.Empty:
            return


def _watched(client: Client, job: Job) -> Iterator[Job]:
    """The job whenever it changes, with its attempts: the stream has them only in its first message."""
    attempts = job.attempts
    for seen in client.watch(job.id):
        if seen.state == "running" and not attempts:
            attempts = client.get(job.id).attempts
        yield replace(seen, attempts=seen.attempts or attempts)
