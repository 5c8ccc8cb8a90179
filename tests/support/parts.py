"""The parts of a daemon in one process: a queue on a real store, and fakes of the ports behind which processes are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ftd.bootstrap import Exit
from ftd.changes import Changes
from ftd.database import Database
from ftd.datasets import Data
from ftd.devices import DeviceError
from ftd.devices.port import Sensors, Stop
from ftd.draft import draft
from ftd.intake import Accepted
from ftd.job import Job
from ftd.launch import Handle
from ftd.ledger import Ledger
from ftd.measured import Measurement
from ftd.moves import Prepared
from ftd.queue import Queue
from ftd.records import DataReport, MemoryEstimate, Outcome, SplitReport
from ftd.rundir import RunDirectories
from ftd.sources import Sent
from ftd.spec import DeviceKind, JobSpec, Resources, TrainingSpec
from ftd.store import MIGRATIONS, Store
from ftsched.model import Device, Quota

HALF_LIFE = 1000.0
ESTIMATE = MemoryEstimate((), 10, 12, "layer", 0.1, 128, "test")
REPORT = DataReport(train=SplitReport(rows=3, longest_row_tokens=100))
ON_CPU = TrainingSpec(resources=Resources(device=DeviceKind.CPU))
PREPARED = Prepared(REPORT, "/prepared/x", ESTIMATE)


@asynccontextmanager
async def opened_queue(
    root: Path,
    active_jobs: int = 100,
    quotas: Mapping[str, Quota] | None = None,
    clock: Callable[[], float] = lambda: 5.0,
) -> AsyncIterator[Queue]:
    """A queue as a daemon on this state directory has it."""
    async with opened_database(root) as database:
        ledger = Ledger(database, HALF_LIFE)
        queue = Queue(
            Store(database),
            RunDirectories(root / "runs"),
            ledger,
            Changes(database, 1000),
            active_jobs,
            quotas or {},
            clock,
        )
        await queue.load()
        try:
            yield queue
        finally:
            await queue.close()


@asynccontextmanager
async def opened_database(root: Path) -> AsyncIterator[Database]:
    """The database of a state directory."""
    database = Database(root / "ftd.db", MIGRATIONS)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def submit(
    queue: Queue,
    spec: JobSpec | None = None,
    request_id: str = "",
    name: str = "name",
    reserve_bytes: int = 12,
    training: TrainingSpec = ON_CPU,
) -> Job:
    """A job for the CPU that needs `reserve_bytes`."""
    estimate = MemoryEstimate((), reserve_bytes, reserve_bytes, "layer", 0.1, 128, "test")
    accepted = Accepted(name, "default", training, estimate)
    return await queue.submit(draft(spec or JobSpec(), accepted, queue.runs, 5.0, request_id=request_id))


class FakeHandle:
    """An attempt that ends when the test says so, or unless it is stubborn when it is asked to stop."""

    pids: tuple[int, ...] = ()

    def __init__(self, *, stubborn: bool = False) -> None:
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.stubborn = stubborn
        self.stops: list[bool] = []
        self.keeps: list[bool] = []
        self.saves = 0

    def end(self, exit_: Exit) -> None:
        self.exit.set_result(exit_)

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exit)

    def save(self) -> None:
        self.saves += 1

    async def stop(self, *, save: bool, keep: bool = False) -> None:
        self.stops.append(save)
        self.keeps.append(keep)
        if not self.stubborn and not self.exit.done():
            self.end(Exit(Outcome.STOPPED))


@dataclass
class FakeLauncher:
    """Starts nothing, and remembers what it was asked to start."""

    # What a start raises instead.
    refusal: Exception | None = None
    # What is found again, by job; a missing one is never found.
    found: dict[str, Handle | Exit | None] = field(default_factory=dict)
    # What it starts does not listen.
    stubborn: bool = False
    # A start or a search waits for it.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    started: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    handles: dict[tuple[str, int], FakeHandle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()

    async def start(self, job: Job, attempt: int, devices: Sequence[str]) -> Handle:
        self.started.append((job.id, attempt, tuple(devices)))
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        handle = self.handles[job.id, attempt] = FakeHandle(stubborn=self.stubborn)
        return handle

    async def reattach(self, job: Job, attempt: int) -> Handle | Exit | None:
        await self.gate.wait()
        if job.id not in self.found:
            await asyncio.get_running_loop().create_future()
        return self.found[job.id]


@dataclass
class FakeInventory:
    """The devices a test says there are."""

    devices: tuple[Device, ...]
    source: str = "fake"
    reads: int = 0
    # What a read raises.
    error: str = ""
    report: Callable[[Device], None] = lambda device: None
    released: list[str] = field(default_factory=list)

    def read(self) -> tuple[Device, ...]:
        self.reads += 1
        if self.error:
            raise DeviceError(self.error)
        return self.devices

    def sensors(self) -> Mapping[str, Sensors]:
        return {}

    def watch(self, report: Callable[[Device], None]) -> Stop:
        self.report = report
        return lambda: None

    def release(self, device: str) -> None:
        self.released.append(device)


async def nothing_sent(_data: Data) -> Mapping[str, Sent]:
    """The data sets of a host to which none was sent."""
    return {}


async def nothing_measured(_job: Job) -> tuple[Measurement, ...]:
    """The history of a host on which nothing has run."""
    return ()


def cpu(total_bytes: int = 100, used_bytes: int = 0) -> Device:
    return Device("cpu", "host", "cpu", "CPU", -1, total_bytes, used_bytes)
