"""What each project has had of the devices: service that fades with time, on disk with the end of each attempt.

An attempt is charged in the transaction that stores its end, so it counts once, whatever is killed when. What runs now
is not on disk: it counts with what it has had and is expected to need, from the jobs themselves, so that an estimate
is corrected by itself as the job goes on. The arithmetic of fair share is `ftsched.share`'s.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ftd.database import Database
from ftd.job import Job
from ftd.records import Attempt
from ftd.spec import DeviceKind, Sharing
from ftsched.model import Ask, Device, Kind, Snapshot
from ftsched.order import Services
from ftsched.share import Widths, decayed


@dataclass(frozen=True, slots=True)
class Charge:
    """Device-seconds that a project has had up to a time."""

    project: str
    service: float
    time: float


class Ledger:
    """The usage of all projects, which halves every `half_life` seconds."""

    def __init__(self, database: Database, half_life: float) -> None:
        self._database = database
        self._half_life = half_life
        self._widths = Widths(())

    def see(self, devices: tuple[Device, ...]) -> None:
        """Learns how large the devices are: what shares one is charged for its part."""
        self._widths = Widths(devices)

    def charge(self, before: Job, after: Job) -> Charge | None:
        """What a change of a job costs its project: the attempt that ended with it."""
        if not before.attempts or before.attempts[-1].end_time is not None:
            return None
        attempt = after.attempts[len(before.attempts) - 1]
        if attempt.end_time is None:
            return None
        seconds = max(0.0, attempt.end_time - attempt.start_time)
        return Charge(after.project, self._widths.of(ask_of(after, attempt)) * seconds, attempt.end_time)

    def book(self, connection: sqlite3.Connection, charge: Charge) -> None:
        """Adds a charge within the caller's transaction."""
        row = connection.execute("SELECT service, time FROM usage WHERE project = ?", (charge.project,)).fetchone()
        service, time = charge.service, charge.time
        if row is not None:
            time = max(time, row["time"])
            service += decayed({"": row["service"]}, time - row["time"], self._half_life)[""]
        connection.execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", (charge.project, service, time))

    async def usage(self, now: float) -> dict[str, float]:
        """What has ended, faded up to now, by project."""
        rows = await self._database.run(lambda connection: connection.execute("SELECT * FROM usage").fetchall())
        return {row["project"]: decayed({"": row["service"]}, now - row["time"], self._half_life)[""] for row in rows}


def with_running(usage: Mapping[str, float], snapshot: Snapshot, now: float) -> dict[str, float]:
    """The usage when what runs is charged what it has had in this attempt and is expected to need still."""
    charged = defaultdict(float, usage)
    services = Services(snapshot)
    for holding in snapshot.holding:
        had = services.width(holding.ask) * max(0.0, now - holding.start_time)
        charged[holding.project] += had + services.of(holding)
    return dict(charged)


def ask_of(job: Job, attempt: Attempt) -> Ask:
    """What an attempt was started with."""
    resources = job.resolved.resources
    return Ask(
        kind=kind_of(job),
        devices=len(attempt.devices),
        bytes_per_device=attempt.reserved_bytes,
        exclusive=resources.sharing is Sharing.EXCLUSIVE,
    )


def kind_of(job: Job) -> Kind:
    """What the job runs on, in the scheduler's words."""
    return "gpu" if job.resolved.resources.device is DeviceKind.GPU else "cpu"
