"""Jobs as rows: every change of a job and its history in one transaction, on disk before it is true.

A row is the public Job message as a blob, beside columns for what is searched and for what only the daemon needs. Bound
parameters only. It decides nothing: what a job may become is `ftd.job`'s, when it changes is the queue's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetuned.v1 import job_pb2
from ftd import uploaded, wire
from ftd.database import Database, Work
from ftd.eligible import Before
from ftd.errors import RequestIdReused
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.records import JobState, Progress
from ftd.selectors import Need, Requirement, Selector
from ftd.spec import JobSpec

# user_version n is the first n of these. Never change one that was released: add one.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of creation
        id TEXT NOT NULL UNIQUE,
        request_id TEXT UNIQUE,                    -- NULL: none was given
        name TEXT NOT NULL,
        project TEXT NOT NULL,
        external_id TEXT,
        state TEXT NOT NULL,
        max_retries INTEGER NOT NULL,
        queue_time REAL,
        stop_goal TEXT,
        save_on_stop INTEGER NOT NULL,
        prepared_directory TEXT NOT NULL,
        record BLOB NOT NULL                       -- finetuned.v1.Job
    );
    CREATE INDEX jobs_by_name ON jobs (name);
    CREATE INDEX jobs_by_external_id ON jobs (external_id) WHERE external_id IS NOT NULL;
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE INDEX jobs_by_project ON jobs (project);
    CREATE TABLE labels (
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (job, key)
    ) WITHOUT ROWID;
    CREATE INDEX labels_by_value ON labels (key, value);
    """,
    """
    CREATE TABLE measurements (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the oldest is forgotten first
        model TEXT NOT NULL,
        method TEXT NOT NULL,
        shape TEXT NOT NULL,
        estimated_bytes INTEGER NOT NULL,
        peak_bytes INTEGER NOT NULL,
        out_of_memory INTEGER NOT NULL,
        step_seconds REAL NOT NULL,
        tokens_per_second REAL NOT NULL,
        device TEXT NOT NULL,
        time REAL NOT NULL
    );
    CREATE INDEX measurements_by_subject ON measurements (model, method, shape);
    """,
    """
    CREATE TABLE usage (
        project TEXT PRIMARY KEY,
        service REAL NOT NULL,  -- device-seconds, faded up to `time`
        time REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE quarantine (
        device TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        time REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the oldest is forgotten first
        record BLOB NOT NULL                       -- finetuned.v1.JobChange, without its cursor
    );
    CREATE TABLE store AS SELECT lower(hex(randomblob(4))) AS name;
    """,
    uploaded.SCHEMA,
)

_COLUMNS = (
    "id, request_id, name, project, external_id, state, max_retries, queue_time, stop_goal, save_on_stop, "
    "prepared_directory, record"
)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
_SELECT = f"SELECT number, {_COLUMNS} FROM jobs"  # noqa: S608 - names of our own, here and below
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608
_UPDATE = f"UPDATE jobs SET ({_COLUMNS}) = ({_VALUES}) WHERE id = :id"  # noqa: S608
# After every id that begins with a prefix.
_AFTER_ALL = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list; empty means all."""

    states: tuple[JobState, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    external_id: str = ""
    selector: Selector = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """A job as it was stored, with its place in the order of creation."""

    number: int
    job: Job
    progress: Progress


class Store:
    """All jobs. Every method raises DatabaseFailed once the database has failed, writing ones DiskFull."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, job: Job, *also: Work) -> Job:
        """Stores a new job, and whatever else comes of that; or answers with the one that the request_id made before.

        Raises RequestIdReused.
        """
        return await self._database.run(lambda connection: _insert(connection, job, also))

    async def submitted(self, request_id: str, spec: JobSpec) -> Job | None:
        """The job stored for this request_id, if any. Raises RequestIdReused if its spec is another one."""
        return await self._database.run(lambda connection: _submitted(connection, request_id, spec))

    async def update(self, job: Job, progress: Progress, *also: Work) -> None:
        """Stores what has become of a job, and in the same transaction whatever else comes of that."""

        def work(connection: sqlite3.Connection) -> None:
            _update(connection, job, progress)
            for each in also:
                each(connection)

        await self._database.run(work)

    async def delete(self, job_id: str, *also: Work) -> None:
        """Forgets a job, and in the same transaction whatever else comes of that."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            for each in also:
                each(connection)

        await self._database.run(work)

    async def get(self, job_id: str) -> Stored | None:
        """One job."""
        found = await self._select("WHERE id = ?", (job_id,))
        return found[0] if found else None

    async def before(self, ids: Sequence[str]) -> dict[str, Before]:
        """Those of the jobs that there are, as who comes after them sees them."""
        sql = f"SELECT id, name, state FROM jobs WHERE id IN ({_marks(ids)})"  # noqa: S608
        return await self._database.run(
            lambda connection: {
                row["id"]: Before(row["name"], JobState(row["state"])) for row in connection.execute(sql, ids)
            }
        )

    async def matching(self, text: str) -> list[str]:
        """Ids of the jobs with this id, else with this id prefix or name; the newest first."""
        return await self._database.run(lambda connection: _matching(connection, text))

    async def active(self) -> list[Stored]:
        """Jobs that have not ended, the oldest first."""
        ended = tuple(TERMINAL)
        return await self._select(f"WHERE state NOT IN ({_marks(ended)}) ORDER BY number", ended)

    async def page(self, chosen: Filter, size: int, before: int | None) -> list[Stored]:
        """Up to `size` jobs, the newest first, created before the job with number `before`."""
        where, values = _conditions(chosen, before)
        return await self._select(f"WHERE {where} ORDER BY number DESC LIMIT ?", (*values, size))

    async def ids(self) -> frozenset[str]:
        """Ids of all jobs."""
        return await self._database.run(
            lambda connection: frozenset(row["id"] for row in connection.execute("SELECT id FROM jobs"))
        )

    async def is_new(self) -> bool:
        """Whether there never was a job."""
        return await self._database.run(
            lambda connection: connection.execute("SELECT 1 FROM sqlite_sequence").fetchone() is None
        )

    async def _select(self, clause: str, values: Sequence[Any]) -> list[Stored]:
        sql = f"{_SELECT} {clause}"
        return await self._database.run(lambda connection: [_read(row) for row in connection.execute(sql, values)])


def _insert(connection: sqlite3.Connection, job: Job, also: Sequence[Work]) -> Job:
    if (known := _submitted(connection, job.request_id, job.spec)) is not None:
        return known
    connection.execute(_INSERT, _row(job, Progress()))
    _write_labels(connection, job)
    uploaded.note_uses(connection, job)
    for each in also:
        each(connection)
    return job


def _submitted(connection: sqlite3.Connection, request_id: str, spec: JobSpec) -> Job | None:
    if not request_id:
        return None
    row = connection.execute(f"{_SELECT} WHERE request_id = ?", (request_id,)).fetchone()
    if row is None:
        return None
    known = _read(row).job
    if differences := wire.differences(known.spec, spec):
        raise RequestIdReused(request_id, known.id, differences)
    return known


def _update(connection: sqlite3.Connection, job: Job, progress: Progress) -> None:
    connection.execute(_UPDATE, _row(job, progress))
    connection.execute("DELETE FROM labels WHERE job = ?", (job.id,))
    _write_labels(connection, job)


def _write_labels(connection: sqlite3.Connection, job: Job) -> None:
    rows = [(job.id, key, value) for key, value in job.labels.items()]
    connection.executemany("INSERT INTO labels VALUES (?, ?, ?)", rows)


def _matching(connection: sqlite3.Connection, text: str) -> list[str]:
    if connection.execute("SELECT 1 FROM jobs WHERE id = ?", (text,)).fetchone():
        return [text]
    sql = "SELECT id FROM jobs WHERE (id >= ? AND id < ?) OR name = ? ORDER BY number DESC"
    return [row["id"] for row in connection.execute(sql, (text, text + _AFTER_ALL, text))]


def _conditions(chosen: Filter, before: int | None) -> tuple[str, list[Any]]:
    """The filter as SQL and its values."""
    parts: list[str] = ["TRUE"]
    values: list[Any] = []
    if before is not None:
        parts.append("number < ?")
        values.append(before)
    if chosen.states:
        parts.append(f"state IN ({_marks(chosen.states)})")
        values.extend(chosen.states)
    if chosen.project:
        parts.append("project = ?")
        values.append(chosen.project)
    if chosen.external_id:
        parts.append("external_id = ?")
        values.append(chosen.external_id)
    for item in chosen.labels.items():
        parts.append("EXISTS (SELECT 1 FROM labels WHERE job = jobs.id AND key = ? AND value = ?)")
        values.extend(item)
    for requirement in chosen.selector:
        parts.append(_required(requirement))
        values.extend((requirement.key, *requirement.values))
    return " AND ".join(parts), values


def _required(requirement: Requirement) -> str:
    """A requirement as SQL; its values are the key, then those of the requirement."""
    negated = "NOT " if requirement.need in (Need.NOT_IN, Need.ABSENT) else ""
    which = f" AND value IN ({_marks(requirement.values)})" if requirement.values else ""
    return f"{negated}EXISTS (SELECT 1 FROM labels WHERE job = jobs.id AND key = ?{which})"  # noqa: S608


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _row(job: Job, progress: Progress) -> dict[str, Any]:
    record = wire.to_proto(job, job_pb2.Job, left_out=wire.PRIVATE_FIELDS)
    record.progress.CopyFrom(wire.to_proto(progress, job_pb2.Progress))
    return {
        "id": job.id,
        "request_id": job.request_id or None,
        "name": job.name,
        "project": job.project,
        "external_id": job.spec.external_id,
        "state": job.state,
        "max_retries": job.max_retries,
        "queue_time": job.queue_time,
        "stop_goal": job.stop_goal,
        "save_on_stop": job.save_on_stop,
        "prepared_directory": job.prepared_directory,
        "record": record.SerializeToString(),
    }


def _read(row: sqlite3.Row) -> Stored:
    record = job_pb2.Job.FromString(row["record"])
    job = wire.from_proto(
        Job,
        record,
        request_id=row["request_id"] or "",
        max_retries=row["max_retries"],
        queue_time=row["queue_time"],
        stop_goal=JobState(row["stop_goal"]) if row["stop_goal"] else None,
        save_on_stop=bool(row["save_on_stop"]),
        prepared_directory=row["prepared_directory"],
    )
    return Stored(row["number"], job, wire.from_proto(Progress, record.progress))
