"""Group commit: what is acknowledged is on disk, one that fails takes nothing from its neighbours."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from ftd.database import Database, DatabaseFailed, DatabaseRefused
from ftd.errors import DiskFull

SCHEMA = ("CREATE TABLE t (x INTEGER UNIQUE, filler BLOB);",)


@asynccontextmanager
async def database(path: Path, migrations: Sequence[str] = SCHEMA) -> AsyncIterator[Database]:
    opened = Database(path, migrations)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def insert(x: int, size: int = 0) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO t VALUES (?, zeroblob(?))", (x, size))
        return x

    return work


def stored(path: Path) -> list[int]:
    """What another process sees: only what was committed."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x")]
    finally:
        connection.close()


async def test_an_answer_means_that_it_is_on_disk(tmp_path: Path) -> None:
    async with database(tmp_path / "db") as db:
        assert await db.run(insert(7)) == 7
        assert stored(tmp_path / "db") == [7]


async def test_what_waits_shares_a_commit(tmp_path: Path) -> None:
    async with database(tmp_path / "db") as db:
        assert await asyncio.gather(*(db.run(insert(x)) for x in range(200))) == list(range(200))
        # The first goes alone, the others have piled up behind it.
        assert db.commits < 20
    assert stored(tmp_path / "db") == list(range(200))


async def test_one_that_fails_takes_nothing_from_its_neighbours(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (99, NULL)")
        raise ValueError("no")

    async with database(tmp_path / "db") as db:
        tasks = [db.run(insert(1)), db.run(half), db.run(insert(1)), db.run(insert(2))]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, ValueError, sqlite3.IntegrityError, int]
    assert stored(tmp_path / "db") == [1, 2]


async def test_a_full_disk_is_refused_and_forgotten(tmp_path: Path) -> None:
    async with database(tmp_path / "db") as db:
        pages = await db.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        await db.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 2}"))
        with pytest.raises(DiskFull):
            await db.run(insert(1, size=100_000))
        await db.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
        assert await db.run(insert(2, size=100_000)) == 2
    assert stored(tmp_path / "db") == [2]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Makes write(2) fail beyond that size: an I/O error as a broken disk gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_after_an_io_error_nothing_is_acknowledged(tmp_path: Path) -> None:
    async with database(tmp_path / "db") as db:
        await db.run(insert(1))
        with files_of_at_most(100_000):
            waiting = asyncio.ensure_future(db.run(insert(2, size=1_000_000)))
            with pytest.raises(DatabaseFailed, match="disk I/O error"):
                await asyncio.shield(db.failed)
        assert not waiting.done()
        with pytest.raises(DatabaseFailed):
            await db.run(insert(3))
        waiting.cancel()
    assert stored(tmp_path / "db") == [1]


async def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with database(path) as db:
        await db.run(insert(1))
    grown = (*SCHEMA, "ALTER TABLE t ADD COLUMN y INTEGER; UPDATE t SET y = x + 1;")
    for _ in range(2):
        async with database(path, grown) as db:
            rows = await db.run(lambda connection: [tuple(row) for row in connection.execute("SELECT x, y FROM t")])
            assert rows == [(1, 2)]


async def test_a_migration_that_fails_leaves_the_schema_it_found(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with database(path) as db:
        await db.run(insert(1))
    with pytest.raises(DatabaseRefused, match="no such table: missing"):
        async with database(path, (*SCHEMA, "ALTER TABLE t ADD COLUMN y INTEGER; UPDATE missing SET y = 1;")):
            pass
    async with database(path) as db:
        assert await db.run(insert(2)) == 2


async def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with database(path, (*SCHEMA, "CREATE TABLE u (x);")):
        pass
    with pytest.raises(DatabaseRefused, match="has schema 2, this daemon knows up to 1; start the newer daemon"):
        async with database(path):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"not a database, but long enough to be looked at " * 20)
    with pytest.raises(DatabaseRefused, match="file is not a database"):
        async with database(path):
            pass
