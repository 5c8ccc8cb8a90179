"""A job and its life: ONE table of the moves it may make, and the function that makes them.

`apply(job, event, now)` returns the job after the event. It is pure: the caller stores the result and acts on it. An
event that the table has no row for raises `IllegalMove` with the job's story. The picture in daemon/README.md is drawn
from TABLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ftd.errors import IllegalMove
from ftd.records import (
    Attempt,
    DataReport,
    Failure,
    FailureClass,
    JobState,
    MemoryEstimate,
    Outcome,
    Reason,
    ReasonCode,
    Transition,
)
from ftd.spec import JobSpec, TrainingSpec

S = JobState
TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})
# States in which processes of the job may exist.
LIVE = frozenset({S.PREPARING, S.STARTING, S.RUNNING, S.STOPPING})
# Failures that are not the job's own fault: the same job may well succeed when it is started again.
RETRYABLE = frozenset({FailureClass.WORKER_KILLED, FailureClass.WORKER_LOST, FailureClass.COLLECTIVE_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Job:
    """Everything stored about a job. Never changed in place."""

    id: str
    request_id: str
    spec: JobSpec
    resolved: TrainingSpec
    name: str
    project: str
    priority: int
    max_retries: int
    state: JobState
    reason: Reason
    create_time: float
    update_time: float
    # The spec's at first; UpdateJob replaces them, and the spec stays as it was submitted.
    labels: Mapping[str, str] = field(default_factory=dict)
    queue_time: float | None = None
    revision: int = 1
    # Where STOPPING leads: PAUSED or CANCELLED.
    stop_goal: JobState | None = None
    save_on_stop: bool = False
    estimate: MemoryEstimate | None = None
    data: DataReport | None = None
    prepared_directory: str = ""
    attempts: tuple[Attempt, ...] = ()
    transitions: tuple[Transition, ...] = ()
    failure: Failure | None = None
    output_path: str = ""
    end_time: float | None = None

    @property
    def checkpoint(self) -> str:
        """Name of the newest checkpoint any attempt left, empty if none."""
        return next((a.checkpoint for a in reversed(self.attempts) if a.checkpoint), "")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data is checked and tokenised."""

    report: DataReport
    directory: str
    estimate: MemoryEstimate


@dataclass(frozen=True, slots=True)
class Placed:
    """The scheduler gave the job devices; its processes are started next."""

    devices: tuple[str, ...]
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """The trainer has said its first word."""


@dataclass(frozen=True, slots=True)
class Ended:
    """No process of the attempt (or of the preparation) is left."""

    outcome: Outcome
    failure: Failure | None = None
    checkpoint: str = ""
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Waits:
    """The scheduler says why the job is not started."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants it ended."""

    save: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Somebody wants its devices back, and to go on later."""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """Somebody wants a paused job to go on."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """Somebody wants a failed or cancelled job to be tried again."""


Event = (
    Prepared | Placed | Running | Ended | Waits | CancelRequested | PauseRequested | ResumeRequested | RetryRequested
)

# (state, event) -> the states it may lead to. Which one, `_target` decides from the job and the event.
TABLE: dict[tuple[JobState, type[Event]], tuple[JobState, ...]] = {
    (S.PREPARING, Prepared): (S.QUEUED,),
    (S.PREPARING, Ended): (S.FAILED, S.PREPARING),
    (S.PREPARING, CancelRequested): (S.STOPPING,),
    (S.PREPARING, PauseRequested): (S.STOPPING,),
    (S.QUEUED, Waits): (S.QUEUED,),
    (S.QUEUED, Placed): (S.STARTING,),
    (S.QUEUED, CancelRequested): (S.CANCELLED,),
    (S.QUEUED, PauseRequested): (S.PAUSED,),
    (S.STARTING, Running): (S.RUNNING,),
    (S.STARTING, Ended): (S.SUCCEEDED, S.FAILED, S.QUEUED),
    (S.STARTING, CancelRequested): (S.STOPPING,),
    (S.STARTING, PauseRequested): (S.STOPPING,),
    (S.RUNNING, Ended): (S.SUCCEEDED, S.FAILED, S.QUEUED),
    (S.RUNNING, CancelRequested): (S.STOPPING,),
    (S.RUNNING, PauseRequested): (S.STOPPING,),
    (S.STOPPING, Running): (S.STOPPING,),
    (S.STOPPING, Prepared): (S.CANCELLED, S.PAUSED),
    (S.STOPPING, Ended): (S.CANCELLED, S.PAUSED, S.SUCCEEDED),
    (S.STOPPING, CancelRequested): (S.STOPPING,),
    (S.PAUSED, ResumeRequested): (S.QUEUED, S.PREPARING),
    (S.PAUSED, CancelRequested): (S.CANCELLED,),
    (S.FAILED, RetryRequested): (S.QUEUED, S.PREPARING),
    (S.CANCELLED, RetryRequested): (S.QUEUED, S.PREPARING),
}


def apply(job: Job, event: Event, now: float, actor: str = "daemon") -> Job:
    """The job after `event`. Raises IllegalMove if the table has no such move.

    An event that changes neither state nor reason (a repeated Waits) returns the same object.
    """
    targets = TABLE.get((job.state, type(event)))
    if targets is None:
        raise IllegalMove(job, event)
    target = _target(job, event)
    if target not in targets:
        raise IllegalMove(job, event)
    reason = _reason(job, event, target)
    if target is job.state and reason == job.reason and isinstance(event, Waits):
        return job
    moved = _with_facts(job, event, target, now)
    transitions = job.transitions
    # A new reason to wait is not a move: it would fill the history.
    if not isinstance(event, Waits):
        transitions = (*transitions, Transition(now, job.state, target, actor, reason))
    return replace(
        moved,
        state=target,
        reason=reason,
        update_time=now,
        end_time=now if target in TERMINAL else None,
        revision=job.revision + 1,
        transitions=transitions,
    )


def may_retry(job: Job, failure: Failure | None) -> bool:
    """Whether the daemon starts the job again by itself after this failure."""
    if failure is None or failure.failure_class not in RETRYABLE:
        return False
    trainings = sum(1 for a in job.attempts if a.outcome is Outcome.FAILED)
    preparations = sum(1 for t in job.transitions if t.from_state is t.to_state is S.PREPARING)
    return trainings + preparations < job.max_retries


def _target(job: Job, event: Event) -> JobState:
    match event:
        case Prepared():
            return job.stop_goal or S.QUEUED
        case Placed():
            return S.STARTING
        case Running():
            return S.STOPPING if job.state is S.STOPPING else S.RUNNING
        case Waits():
            return S.QUEUED
        case Ended():
            return _after_end(job, event)
        case CancelRequested():
            return S.STOPPING if job.state in LIVE else S.CANCELLED
        case PauseRequested():
            return S.STOPPING if job.state in LIVE else S.PAUSED
        case ResumeRequested() | RetryRequested():
            return S.QUEUED if job.prepared_directory else S.PREPARING


def _after_end(job: Job, event: Ended) -> JobState:
    """An output that is there is a success even if a stop was asked for too late; a stop outranks a failure."""
    preparing = job.data is None and not job.attempts
    if event.outcome is Outcome.COMPLETED and not preparing:
        return S.SUCCEEDED
    if job.stop_goal is not None:
        return job.stop_goal
    if event.outcome is Outcome.STOPPED:
        return S.PREPARING if preparing else S.QUEUED
    if may_retry(job, event.failure):
        return S.PREPARING if preparing else S.QUEUED
    return S.FAILED


def _reason(job: Job, event: Event, target: JobState) -> Reason:
    match event:
        case Prepared():
            return Reason(ReasonCode.PREPARED, "data is ready")
        case Placed(devices=devices):
            return Reason(ReasonCode.PLACED, f"starting on {', '.join(devices)}")
        case Running():
            return job.reason if job.state is S.STOPPING else Reason(ReasonCode.STARTED, "training")
        case Waits(reason=reason):
            return reason
        case CancelRequested():
            return Reason(ReasonCode.CANCEL_REQUESTED, "cancelled on request")
        case PauseRequested():
            return Reason(ReasonCode.PAUSE_REQUESTED, "paused on request")
        case ResumeRequested():
            return Reason(ReasonCode.RESUMED, "resumed on request")
        case RetryRequested():
            return Reason(ReasonCode.RETRY, "retried on request")
        case Ended():
            return _reason_after_end(job, event, target)


def _reason_after_end(job: Job, event: Ended, target: JobState) -> Reason:
    if target is S.SUCCEEDED:
        return Reason(ReasonCode.COMPLETED, "completed")
    if target in (S.CANCELLED, S.PAUSED):
        return job.reason
    if target is S.FAILED:
        return Reason(ReasonCode.FAILED, event.failure.message if event.failure else str(event.outcome))
    return Reason(ReasonCode.RETRY, event.failure.message if event.failure else "stopped from outside, goes on")


def _with_facts(job: Job, event: Event, target: JobState, now: float) -> Job:
    """What the event adds to the job besides its state."""
    if target is S.QUEUED and job.state is not S.QUEUED:
        job = replace(job, queue_time=now, stop_goal=None, save_on_stop=False, failure=None)
    match event:
        case Prepared(report=report, directory=directory, estimate=estimate):
            return replace(job, data=report, prepared_directory=directory, estimate=estimate, stop_goal=None)
        case Placed(devices=devices, reserved_bytes=reserved):
            attempt = Attempt(
                number=len(job.attempts) + 1,
                devices=devices,
                start_time=now,
                resumed_from=job.checkpoint,
                reserved_bytes=reserved,
            )
            return replace(job, attempts=(*job.attempts, attempt))
        case CancelRequested(save=save) if target is S.STOPPING:
            return replace(job, stop_goal=S.CANCELLED, save_on_stop=save)
        case PauseRequested() if target is S.STOPPING:
            return replace(job, stop_goal=S.PAUSED, save_on_stop=True)
        case Ended():
            return _close_attempt(job, event, target, now)
        case RetryRequested():
            return replace(job, failure=None, stop_goal=None)
        case _:
            return job


def _close_attempt(job: Job, event: Ended, target: JobState, now: float) -> Job:
    failure = event.failure if target is S.FAILED else None
    job = replace(job, stop_goal=None, save_on_stop=False, failure=failure)
    if not job.attempts or job.attempts[-1].end_time is not None:
        return job
    closed = replace(
        job.attempts[-1],
        end_time=now,
        outcome=event.outcome,
        failure=event.failure,
        checkpoint=event.checkpoint or job.attempts[-1].checkpoint,
        peak_memory_bytes=event.peak_memory_bytes,
    )
    return replace(job, attempts=(*job.attempts[:-1], closed))
