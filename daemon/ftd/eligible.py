"""Whether a job may be planned at all: has its time come, and have the jobs that it comes after ended?

`stand` looks at all jobs that have not ended, once in each cycle, and answers who may be planned, why another one may
not, who has no future any more, and when the next of these answers changes by itself. Pure: what time it is, and what
became of the jobs before, is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ftd.job import Job
from ftd.moves import STOPS, TABLE, TERMINAL, Abandoned, DeadlinePassed
from ftd.origins import jobs_in
from ftd.records import JobState, Reason, ReasonCode
from ftd.spec import DependencyCondition


@dataclass(frozen=True, slots=True)
class Before:
    """A job that another one comes after."""

    name: str
    state: JobState


@dataclass(frozen=True, slots=True)
class Kept:
    """Why a queued job may not be planned, and the jobs it waits for."""

    reason: Reason
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What all jobs are allowed now. `alarm`: when time alone changes it next; None: never."""

    ready: tuple[Job, ...]
    kept: Mapping[str, Kept]
    doomed: Mapping[str, Abandoned | DeadlinePassed]
    alarm: float | None


def stand(jobs: Iterable[Job], before: Mapping[str, Before], now: float) -> Standing:
    """Judges the jobs. `before` has the jobs that any of them comes after, by id; one that is missing is gone."""
    ready: list[Job] = []
    kept: dict[str, Kept] = {}
    doomed: dict[str, Abandoned | DeadlinePassed] = {}
    alarms: list[float] = []
    for job in jobs:
        alarms += _alarms(job, now)
        if doom := _doom(job, before, now):
            doomed[job.id] = doom
        elif job.state is not JobState.QUEUED:
            continue
        elif wait := _wait(job, before, now):
            kept[job.id] = wait
        else:
            ready.append(job)
    return Standing(tuple(ready), kept, doomed, min(alarms, default=None))


def taken_from(job: Job) -> frozenset[str]:
    """The jobs whose output or checkpoint the job takes, by id."""
    return frozenset(text for _, text in jobs_in(job.resolved))


def may_prepare(job: Job, before: Mapping[str, Before]) -> bool:
    """Whether what the job takes is there: its tokenizer and its template come with that. `before` has who is left."""
    taken = taken_from(job)
    for dependency in job.dependencies:
        state = before[dependency.job].state if dependency.job in before else None
        ended = (JobState.SUCCEEDED,) if dependency.condition is DependencyCondition.OK else (*TERMINAL, None)
        if dependency.job in taken and state not in ended:
            return False
    return True


def _alarms(job: Job, now: float) -> Iterator[float]:
    """The moments still to come that change what the job may do."""
    for moment in (job.spec.not_before, job.spec.deadline):
        if moment is not None and moment > now:
            yield moment


def _doom(job: Job, before: Mapping[str, Before], now: float) -> Abandoned | DeadlinePassed | None:
    """What ends the job for good, if anything does and it has not been told yet."""
    if job.spec.deadline is not None and job.spec.deadline <= now and _can_take(job, DeadlinePassed):
        return DeadlinePassed()
    if _can_take(job, Abandoned):
        return next((Abandoned(message) for message in _failed(job, before)), None)
    return None


def _can_take(job: Job, event: type[Abandoned | DeadlinePassed]) -> bool:
    _, outranked = STOPS[event]
    return (job.state, event) in TABLE and (job.stop_goal is None or job.stop_goal in outranked)


def _failed(job: Job, before: Mapping[str, Before]) -> Iterator[str]:
    """In words, the jobs before it that will never have ended as they must. One that is gone had ended somehow."""
    for dependency in job.dependencies:
        first = before.get(dependency.job)
        if dependency.condition is DependencyCondition.ANY:
            continue
        if first is None:
            yield f"job {dependency.job}, which it comes after, is gone"
        elif first.state in TERMINAL - {JobState.SUCCEEDED}:
            yield f"job {dependency.job} ({first.name}), which it comes after, has {_ended(first.state)}"


def _ended(state: JobState) -> str:
    return "failed" if state is JobState.FAILED else "been cancelled"


def _wait(job: Job, before: Mapping[str, Before], now: float) -> Kept | None:
    open_ = [each for each in job.dependencies if each.job in before and before[each.job].state not in TERMINAL]
    if open_:
        parts = [_comes_after(each.job, before[each.job], each.condition) for each in open_]
        reason = Reason(ReasonCode.WAITING_FOR_JOBS, f"comes after {'; '.join(parts)}")
        return Kept(reason, tuple(each.job for each in open_))
    if job.spec.not_before is not None and job.spec.not_before > now:
        return Kept(Reason(ReasonCode.NOT_BEFORE, f"is not to start before {_shown(job.spec.not_before)}"))
    return None


def _comes_after(job_id: str, first: Before, condition: DependencyCondition | None) -> str:
    must = "ended" if condition is DependencyCondition.ANY else "succeeded"
    return f"job {job_id} ({first.name}), which is {first.state} and must have {must}"


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
