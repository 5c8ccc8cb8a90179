"""Durable submits a second through the whole daemon, for 1 and 64 callers, against bare SQLite on the same disk.

The limit of one caller is one insert and one flush a commit; that of 64 is 64 inserts a commit, which is the most that
group commit could do. The jobs are held, so nothing is prepared or started beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path

import grpc
from tests.bench import table
from tests.support.daemon import Daemon

from finetuned.v1 import job_service_pb2, job_service_pb2_grpc

ROW = b"x" * 1200


def main() -> None:
    table.title("durable submits")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Daemon(root, limits={"active_jobs": 50_000}) as daemon:
            one = asyncio.run(submits(daemon, callers=1, jobs=200))
            many = asyncio.run(submits(daemon, callers=64, jobs=2000))
        table.line("1 caller", one, "jobs/s", "bare SQLite, 1 insert a commit", inserts(root / "one.db", 1))
        table.line("64 callers", many, "jobs/s", "bare SQLite, 64 inserts a commit", inserts(root / "many.db", 64))


async def submits(daemon: Daemon, callers: int, jobs: int) -> float:
    spec = daemon.spec(hold=True)
    async with grpc.aio.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)

        async def caller() -> None:
            for _ in range(jobs // callers):
                await stub.CreateJob(job_service_pb2.CreateJobRequest(spec=spec))

        await stub.CreateJob(job_service_pb2.CreateJobRequest(spec=spec))
        begin = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return jobs // callers * callers / (time.perf_counter() - begin)


def inserts(path: Path, group: int, rows: int = 3200) -> float:
    """Rows a second with `group` inserts in each flushed commit."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body BLOB)")
        begin = time.perf_counter()
        for _ in range(rows // group):
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO jobs (body) VALUES (?)", [(ROW,)] * group)
            database.execute("COMMIT")
        return rows / (time.perf_counter() - begin)
