"""One SQLite connection in one thread: group commit, migrations, nothing acknowledged that is not on disk.

Callers hand in functions of the connection. The thread takes one, then whatever else waits, runs them in one
transaction, each in its own savepoint so that one that fails takes nothing from its neighbours, and answers all of
them after COMMIT. It must never open a second connection: SQLite before 3.51.3 can lose commits with two.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from ftd.errors import DiskFull

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
log = structlog.get_logger(__name__)

# As many as measured to be worth one flush.
GROUP = 512


class DatabaseFailed(Exception):
    """The database did not do what it promised. The process must end: what is on disk is only known after a restart."""


class DatabaseRefused(Exception):
    """The file cannot be used, in words for the operator."""


class Database:
    """A file and its thread. `failed` is done, with the exception, once nothing can be acknowledged any more."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._migrations = migrations
        self._waiting: queue.SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="database", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        # Commits made, for the tests of group commit.
        self.commits = 0

    async def open(self) -> None:
        """Opens and migrates the file. Raises DatabaseRefused."""
        self._thread.start()
        await self._opened

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, once it is on disk; or what it raised. Raises DiskFull, DatabaseFailed."""
        if self.failed.done():
            raise DatabaseFailed("the database has failed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put((work, future))
        return await future

    async def close(self) -> None:
        """Finishes what waits, then closes the file."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    # Everything below runs in the thread.

    def _work(self) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, DatabaseRefused) as error:
            refused = error if isinstance(error, DatabaseRefused) else DatabaseRefused(f"{self._path}: {error}")
            self._loop.call_soon_threadsafe(self._opened.set_exception, refused)
            return
        self._loop.call_soon_threadsafe(self._opened.set_result, None)
        try:
            open_ = True
            while open_:
                group, open_ = self._take()
                answers = self._commit(connection, [work for work, _ in group])
                self._loop.call_soon_threadsafe(_answer, [future for _, future in group], answers)
        except sqlite3.Error as error:
            # The group stays unanswered: whether it is on disk is not known.
            log.critical("the database failed; the daemon ends", error=str(error))
            self._loop.call_soon_threadsafe(self.failed.set_exception, DatabaseFailed(str(error)))
        finally:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self._path, self._migrations)
        except BaseException:
            connection.close()
            raise
        log.info("database open", path=str(self._path), sqlite=sqlite3.sqlite_version)
        return connection

    def _take(self) -> tuple[list[tuple[Work, asyncio.Future[Any]]], bool]:
        """Waits for one item and takes what else is there; False when it is time to close."""
        item = self._waiting.get()
        group = []
        while item is not None:
            group.append(item)
            if len(group) == GROUP:
                return group, True
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _commit(self, connection: sqlite3.Connection, group: list[Work]) -> list[Any]:
        """One transaction for all; an answer is a result or an exception."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            answers = [_isolated(connection, work) for work in group]
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            # No room is refused by write(2), before any flush: what was there is still whole, and room may come back.
            if error.sqlite_errorname != "SQLITE_FULL":
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [DiskFull("the disk of the daemon's state is full") for _ in group]
        self.commits += 1
        return answers


def _isolated(connection: sqlite3.Connection, work: Work) -> Any:
    connection.execute("SAVEPOINT item")
    try:
        answer = work(connection)
    except sqlite3.OperationalError:
        raise
    except Exception as error:
        connection.execute("ROLLBACK TO item")
        answer = error
    connection.execute("RELEASE item")
    return answer


def _answer(futures: list[asyncio.Future[Any]], answers: list[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # its caller has gone away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Brings the schema to `len(migrations)`, its user_version. Raises DatabaseRefused if it is newer than that."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise DatabaseRefused(
            f"{path}: has schema {version}, this daemon knows up to {len(migrations)}; start the newer daemon that "
            "made it, or give this one another state directory"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
