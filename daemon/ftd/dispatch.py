"""Who starts next: one cycle, in numbered steps, over a snapshot of the jobs and the devices.

    1 wait for a wake-up   2 end what has no future   3 snapshot   4 plan   5 commit the starts, and start
    6 ask others to make room   7 say why the others wait   8 let the forecasts be made

The decision itself is `ftsched.plan`'s, which is pure; here are only its two ends, the world as it is and what is done
about it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ftd.attempts import Attempts
from ftd.eligible import Standing
from ftd.errors import DevicesUnreadable, DiskFull, IllegalMove, JobNotFound
from ftd.job import Job
from ftd.moves import Event, Placed, PreemptRequested, Waits
from ftd.outlook import Outlook, foresee
from ftd.probe import wanted
from ftd.queue import Queue
from ftd.records import Duration, Forecast, JobState, Reason, ReasonCode
from ftd.world import World
from ftsched.model import Plan
from ftsched.plan import plan

# Memory that others give back makes no noise: while jobs wait, the devices are looked at this often.
LOOK_SECONDS = 5.0
# Somebody may set the wall clock while a time is waited for: it is read again this often.
CLOCK_SECONDS = 60.0
# Free memory changes all the time. A reason is said anew when a size in it has changed by this share.
NEWS = 0.1
_SIZE = re.compile(r"(\d+(?:\.\d+)?) (GiB|MiB)")
_UNREADABLE = Reason(
    ReasonCode.DEVICE_UNFIT, "the devices cannot be read just now; nothing is started until they answer again"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """Where a job would start now, or why it would wait and until when; and how long it would run."""

    devices: tuple[str, ...] = ()
    reason: Reason | None = None
    forecast: Forecast | None = None
    duration: Duration | None = None


class Dispatcher:
    """Starts waiting jobs on devices."""

    def __init__(self, queue: Queue, attempts: Attempts, world: World, outlook: Outlook) -> None:
        self._queue = queue
        self._attempts = attempts
        self._world = world
        self._outlook = outlook
        self._wake = asyncio.Event()
        # What was stored before the daemon was started is news, too.
        self._wake.set()
        self._standing = Standing((), {}, {}, None)
        # Jobs that are being told why they wait; that wakes nobody, or the cycle would never rest.
        self._told: frozenset[str] = frozenset()
        queue.listen(self._heard)

    def wake(self) -> None:
        """Begins a cycle: something has happened to a device."""
        self._wake.set()

    async def run(self) -> None:
        """Dispatches for ever."""
        while True:
            await self._wait()  # 1
            self._standing = standing = await self._world.standing()
            await self._apply(standing.doomed)  # 2
            await self._say({job: kept.reason for job, kept in standing.kept.items()})
            if not standing.ready:
                continue
            try:
                snapshot = await self._world.snapshot(standing.ready)  # 3
            except DevicesUnreadable:
                await self._say({job.id: _UNREADABLE for job in standing.ready})
                continue
            decision = await asyncio.to_thread(plan, snapshot, self._world.clock())  # 4
            for job in await self._commit(decision):  # 5
                await self._start(job)
            await self._apply({each.job: PreemptRequested(each.message) for each in decision.preemptions})  # 6
            await self._say({wait.job: Reason(ReasonCode(wait.code), wait.message) for wait in decision.waits})  # 7
            self._outlook.look(snapshot)  # 8

    async def rehearse(self, job: Job) -> Trial:
        """What would happen to a job if it were submitted now and its data were ready. Raises DevicesUnreadable."""
        job = replace(job, state=JobState.QUEUED)
        standing = await self._world.standing(job)
        if kept := standing.kept.get(job.id):
            return Trial(reason=kept.reason)
        snapshot, now = await self._world.snapshot(standing.ready), self._world.clock()
        duration = self._world.duration(job, snapshot.devices)
        decision = await asyncio.to_thread(plan, snapshot, now)
        for start in decision.starts:
            if start.job == job.id:
                return Trial(devices=start.devices, duration=duration)
        wait = next(wait for wait in decision.waits if wait.job == job.id)
        forecasts = await asyncio.to_thread(foresee, snapshot, now)
        return Trial((), Reason(ReasonCode(wait.code), wait.message), forecasts.get(job.id), duration)

    def _heard(self, job: Job) -> None:
        if job.id not in self._told:
            self._wake.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience()):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _patience(self) -> float | None:
        """How long nothing can change that would make no noise; None: for ever."""
        alarm, looks = self._standing.alarm, [LOOK_SECONDS] if self._standing.ready else []
        if alarm is not None:
            looks.append(min(max(0.0, alarm - self._world.clock()), CLOCK_SECONDS))
        return min(looks, default=None)

    async def _commit(self, decision: Plan) -> list[Job]:
        """The jobs that got their devices, on disk in one flush."""
        jobs = {job.id: job for job in self._standing.ready}
        return await self._apply(
            {
                start.job: Placed(start.devices, estimate.reserve_bytes, wanted(jobs[start.job]))
                for start in decision.starts
                if (estimate := jobs[start.job].estimate)
            }
        )

    async def _start(self, job: Job) -> None:
        # It may have been stopped since.
        if (await self._queue.get(job.id)).state is JobState.STARTING:
            self._attempts.start(job, job.attempts[-1].devices)

    async def _say(self, reasons: Mapping[str, Reason]) -> None:
        known = {job.id: job.reason for job in self._queue.active() if job.state is JobState.QUEUED}
        news = {job: Waits(reason) for job, reason in reasons.items() if job in known and is_news(known[job], reason)}
        self._told = frozenset(news)
        await self._apply(news)
        self._told = frozenset()

    async def _apply(self, moves: Mapping[str, Event]) -> list[Job]:
        """Applies all at once, so that they share a commit; the jobs that took it."""
        answers = await asyncio.gather(*(self._queue.apply(*move) for move in moves.items()), return_exceptions=True)
        for answer in answers:
            # A job that was cancelled, paused or deleted since the snapshot, or a full disk: the next cycle sees it.
            if isinstance(answer, BaseException) and not isinstance(answer, IllegalMove | JobNotFound | DiskFull):
                raise answer
        return [answer for answer in answers if isinstance(answer, Job)]


def is_news(old: Reason, new: Reason) -> bool:
    """Whether a reason is worth storing: another one, about others, or with sizes that are really different."""
    if old.code is not new.code or _SIZE.sub("", old.message) != _SIZE.sub("", new.message):
        return True
    return any(abs(was - is_) > NEWS * max(was, is_) for was, is_ in zip(_sizes(old), _sizes(new), strict=True))


def _sizes(reason: Reason) -> Iterable[float]:
    """The sizes in a message, in GiB."""
    for number, unit in _SIZE.findall(reason.message):
        yield float(number) * (1.0 if unit == "GiB" else 1 / 1024)
