"""What attempts have measured: a bounded, durable table of peaks and step times, by what was trained and how.

Read once at the start and then kept in memory, so that an estimate never waits for the disk. It decides nothing: what
the runs teach is `ftsched.learned`'s, and `ftd.memory` asks.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

from ftd.database import Database

# Kept of each subject, and of all together; the oldest go.
RUNS_EACH = 16
RUNS = 4096


class Subject(NamedTuple):
    """What was measured: the shape of the model, the method, and the shape of the step, each as a key."""

    model: str
    method: str
    shape: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one attempt measured. Bytes on each device, without the context; seconds of an update, 0 if it made none."""

    subject: Subject
    # What the arithmetic says, without what was learned before.
    estimated_bytes: int
    # Of an attempt that ran out of memory: what it had, so the least that it needs.
    peak_bytes: int
    out_of_memory: bool
    step_seconds: float
    tokens_per_second: float
    device: str
    time: float


_NAMES = [each.name for each in fields(Measurement) if each.name != "subject"]
_COLUMNS = ", ".join([*Subject._fields, *_NAMES])
_INSERT = f"INSERT INTO measurements ({_COLUMNS}) VALUES ({', '.join('?' * (3 + len(_NAMES)))})"  # noqa: S608
_SELECT = f"SELECT {_COLUMNS} FROM measurements ORDER BY number"  # noqa: S608 - names of our own
_FORGET_OF_SUBJECT = """
    DELETE FROM measurements WHERE (model, method, shape) = (?, ?, ?) AND number NOT IN
    (SELECT number FROM measurements WHERE (model, method, shape) = (?, ?, ?) ORDER BY number DESC LIMIT ?)
"""
_FORGET = "DELETE FROM measurements WHERE number <= (SELECT MAX(number) FROM measurements) - ?"


class Measurements:
    """All measurements. `add` and `load` raise what the database raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # By model and method. Replaced as a whole, so that another thread may read while one is added.
        self._known: dict[tuple[str, str], tuple[Measurement, ...]] = {}

    async def load(self) -> None:
        """Reads the table. Call it once, first."""
        rows = await self._database.run(lambda connection: connection.execute(_SELECT).fetchall())
        for row in rows:
            self._keep(_read(row))

    async def add(self, measured: Measurement) -> None:
        """Stores what an attempt measured."""
        await self._database.run(lambda connection: _insert(connection, measured))
        self._keep(measured)

    def of(self, model: str, method: str) -> tuple[Measurement, ...]:
        """Runs of this model with this method, the oldest first."""
        return self._known.get((model, method), ())

    def _keep(self, measured: Measurement) -> None:
        key = measured.subject[:2]
        runs = (*self._known.get(key, ()), measured)
        same = [run for run in runs if run.subject == measured.subject]
        self._known[key] = tuple(run for run in runs if run not in same[:-RUNS_EACH])


def _read(row: sqlite3.Row) -> Measurement:
    values = {name: row[name] for name in _NAMES}
    values["out_of_memory"] = bool(values["out_of_memory"])
    return Measurement(Subject(row["model"], row["method"], row["shape"]), **values)


def _insert(connection: sqlite3.Connection, measured: Measurement) -> None:
    subject = measured.subject
    connection.execute(_INSERT, (*subject, *astuple(measured)[1:]))
    connection.execute(_FORGET_OF_SUBJECT, (*subject, *subject, RUNS_EACH))
    connection.execute(_FORGET, (RUNS,))
