"""Names of the data sets that clients have sent, and which jobs use their contents: rows beside the jobs'.

Contents are known by their SHA-256, and several names may have the same. A job notes what it uses in the transaction
that stores it, so contents are never forgotten under a job. Where the contents lie is `ftd.uploads`' business.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ftd.database import Database
from ftd.errors import DatasetExists, DatasetNeeded, DatasetNotFound, InvalidSpec, Violation
from ftd.job import Job
from ftd.moves import TERMINAL

SCHEMA = """
    CREATE TABLE datasets (
        name TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        file TEXT NOT NULL,
        create_time REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX datasets_by_contents ON datasets (sha256);
    CREATE TABLE dataset_uses (
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, sha256)
    ) WITHOUT ROWID;
    CREATE INDEX dataset_uses_by_contents ON dataset_uses (sha256);
"""
_ENDED = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
# Names of our own, here and below.
_USES = f"dataset_uses AS uses JOIN jobs ON jobs.id = uses.job AND jobs.state NOT IN ({_ENDED})"
_JOBS = f"(SELECT count(*) FROM {_USES} WHERE uses.sha256 = datasets.sha256)"  # noqa: S608
_SELECT = f"SELECT name, sha256, bytes, file, create_time, {_JOBS} AS jobs FROM datasets"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set, with the number of jobs that have not ended and use its contents."""

    name: str
    sha256: str
    bytes: int
    file: str
    create_time: float
    jobs: int = 0


class Datasets:
    """All data sets. Every method raises DatabaseFailed once the database has failed, writing ones DiskFull."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, text: str) -> Dataset:
        """The data set with this name, else the first with these contents. Raises DatasetNotFound."""
        found = await self._select("WHERE name = ? OR sha256 = ? ORDER BY name LIMIT 1", (text, text))
        if not found:
            raise DatasetNotFound(text)
        return found[0]

    async def page(self, size: int, after: str = "") -> list[Dataset]:
        """Up to `size` data sets by name, after the name `after`."""
        return await self._select("WHERE name > ? ORDER BY name LIMIT ?", (after, size))

    async def contents(self) -> dict[str, int]:
        """SHA-256 -> bytes of all contents that have a name."""
        sql = "SELECT DISTINCT sha256, bytes FROM datasets"
        return await self._database.run(lambda connection: dict(map(tuple, connection.execute(sql))))

    async def add(self, dataset: Dataset) -> Dataset:
        """Gives contents a name; what is there if they have it already. Raises DatasetExists."""
        return await self._database.run(lambda connection: _add(connection, dataset))

    async def remove(self, name: str) -> Dataset | None:
        """Takes a name away; the data set if its contents have no other one. Raises DatasetNotFound, DatasetNeeded."""
        return await self._database.run(lambda connection: _remove(connection, name))

    async def _select(self, clause: str, values: Sequence[object]) -> list[Dataset]:
        return await self._database.run(lambda connection: _read(connection, clause, values))


def note_uses(connection: sqlite3.Connection, job: Job) -> None:
    """Keeps the contents that a job is going to read. Raises InvalidSpec if they were deleted meanwhile."""
    for split in ("train", "eval"):
        for index, source in enumerate(getattr(job.resolved.data, split)):
            if source.dataset is None:
                continue
            if not _read(connection, "WHERE sha256 = ? LIMIT 1", (source.dataset,)):
                text = "was deleted meanwhile; accepted is a data set that is there, e.g. the same file uploaded again"
                raise InvalidSpec([Violation(f"training.data.{split}[{index}].dataset", text)])
            connection.execute("INSERT OR IGNORE INTO dataset_uses VALUES (?, ?)", (job.id, source.dataset))


def _add(connection: sqlite3.Connection, dataset: Dataset) -> Dataset:
    values = (dataset.name, dataset.sha256, dataset.bytes, dataset.file, dataset.create_time)
    connection.execute("INSERT OR IGNORE INTO datasets VALUES (?, ?, ?, ?, ?)", values)
    (stored,) = _read(connection, "WHERE name = ?", (dataset.name,))
    if stored.sha256 != dataset.sha256:
        raise DatasetExists(dataset.name)
    return stored


def _remove(connection: sqlite3.Connection, name: str) -> Dataset | None:
    found = _read(connection, "WHERE name = ?", (name,))
    if not found:
        raise DatasetNotFound(name)
    dataset = found[0]
    last = len(_read(connection, "WHERE sha256 = ?", (dataset.sha256,))) == 1
    if last and dataset.jobs:
        sql = f"SELECT uses.job FROM {_USES} WHERE uses.sha256 = ? ORDER BY jobs.number"  # noqa: S608
        users = connection.execute(sql, (dataset.sha256,))
        raise DatasetNeeded(name, [row["job"] for row in users])
    connection.execute("DELETE FROM datasets WHERE name = ?", (name,))
    return dataset if last else None


def _read(connection: sqlite3.Connection, clause: str, values: Sequence[object]) -> list[Dataset]:
    return [Dataset(**row) for row in connection.execute(f"{_SELECT} {clause}", values)]
