"""Every change of state of every job, numbered, on disk in the transaction that made it.

A reader goes on from a cursor: the number of the last change it has seen, with the name of the store, so that a cursor
of another store is refused and never means other changes here. The oldest are forgotten first; who was away for too
long is told so. It holds what was said and decides nothing: moves are `ftd.job`'s, stored by the queue.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from functools import partial

from finetuned.v1 import job_changes_pb2, job_pb2
from ftd import wire
from ftd.database import Database, Work
from ftd.errors import CursorTooOld, InvalidRequest
from ftd.job import Job

JobChange = job_changes_pb2.JobChange


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in order; `cursor` is where to go on, `more` whether there were more than asked for."""

    changes: tuple[JobChange, ...]
    cursor: str
    more: bool


class Changes:
    """The newest `kept` changes of all jobs. Belongs to one event loop."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept
        self._news = asyncio.Event()

    # For the queue, which stores what has become of a job and these in one transaction.

    def of(self, before: Job | None, after: Job) -> list[Work]:
        """What is to be written where `after` takes the place of `before`, or is new."""
        known = len(before.transitions) if before else 0
        return [partial(self._write, change=_moved(after, index)) for index in range(known, len(after.transitions))]

    def of_deleted(self, job: Job, now: float) -> Work:
        """What is to be written where a job is forgotten."""
        change = _about(job)
        change.delete_time.FromNanoseconds(round(now * 1e9))
        return partial(self._write, change=change)

    def ring(self) -> None:
        """Wakes all readers: what was to be written is on disk."""
        self._news.set()
        self._news = asyncio.Event()

    # For readers.

    def news(self) -> asyncio.Event:
        """Set with the next change. Take it before you read, so that none falls between."""
        return self._news

    async def now(self) -> str:
        """The cursor of the newest change."""
        return await self._database.run(lambda connection: _cursor(_store_name(connection), _newest(connection)))

    async def after(self, cursor: str, size: int) -> Page:
        """Up to `size` changes after the cursor, or from the oldest on. Raises InvalidRequest, CursorTooOld."""
        return await self._database.run(partial(_read, cursor=cursor, size=size))

    def _write(self, connection: sqlite3.Connection, change: JobChange) -> None:
        sql = "INSERT INTO changes (record) VALUES (?)"
        number = connection.execute(sql, (change.SerializeToString(),)).lastrowid or 0
        connection.execute("DELETE FROM changes WHERE number <= ?", (number - self._kept,))


def _about(job: Job) -> JobChange:
    return JobChange(
        job=job.id,
        name=job.name,
        project=job.project,
        labels=job.labels,
        external_id=job.spec.external_id or "",
        revision=job.revision,
        attempts=len(job.attempts),
    )


def _moved(job: Job, index: int) -> JobChange:
    change = _about(job)
    change.transition.CopyFrom(wire.to_proto(job.transitions[index], job_pb2.Transition))
    return change


def _read(connection: sqlite3.Connection, cursor: str, size: int) -> Page:
    oldest = connection.execute("SELECT min(number) FROM changes").fetchone()[0] or 1
    last = _number(connection, cursor) if cursor else oldest - 1
    if last < oldest - 1:
        raise CursorTooOld(oldest - 1 - last)
    sql = "SELECT number, record FROM changes WHERE number > ? ORDER BY number LIMIT ?"
    rows = connection.execute(sql, (last, size + 1)).fetchall()
    store, changes = _store_name(connection), []
    for row in rows[:size]:
        change = JobChange.FromString(row["record"])
        last, change.cursor = row["number"], _cursor(store, row["number"])
        changes.append(change)
    return Page(tuple(changes), _cursor(store, last), len(rows) > size)


def _cursor(store: str, number: int) -> str:
    return f"{store}-{number}"


def _number(connection: sqlite3.Connection, cursor: str) -> int:
    name, _, number = cursor.partition("-")
    known = number.isascii() and number.isdecimal() and int(number) <= _newest(connection)
    if name != _store_name(connection) or not known:
        raise InvalidRequest(f"cursor {cursor!r} is none of this daemon's; list the jobs, and begin anew without one")
    return int(number)


def _store_name(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT name FROM store").fetchone()[0])


def _newest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(row[0]) if row else 0
