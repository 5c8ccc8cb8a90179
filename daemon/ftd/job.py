"""A job and its life: what is stored about it, and the function that makes its moves.

`apply(job, event, now)` returns the job after the event. It is pure: the caller stores the result and acts on it. An
event that the table in `ftd.moves` has no row for raises `IllegalMove` with the job's story.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ftd.errors import IllegalMove
from ftd.moves import (
    LIVE,
    STOPS,
    TABLE,
    TERMINAL,
    Abandoned,
    CancelRequested,
    DeadlinePassed,
    Eased,
    Ended,
    Event,
    PauseRequested,
    Placed,
    PreemptRequested,
    Prepared,
    Probed,
    ResumeRequested,
    RetryRequested,
    Running,
    StopRequested,
    Waits,
)
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
from ftd.spec import Dependency, JobSpec, TrainingSpec
from ftd.weights import Lineage

S = JobState
# Failures that are not the job's own fault: the same job may well succeed when it is started again.
RETRYABLE = frozenset({FailureClass.WORKER_KILLED, FailureClass.WORKER_LOST, FailureClass.COLLECTIVE_TIMEOUT})
DEADLINE = Failure(
    FailureClass.DEADLINE_EXCEEDED,
    "its deadline passed before it had ended",
    "raise deadline, or let it start earlier with a higher priority; its newest checkpoint is kept",
)
REASONS = {
    Prepared: Reason(ReasonCode.PREPARED, "data is ready"),
    Running: Reason(ReasonCode.STARTED, "training"),
    Probed: Reason(ReasonCode.PROBED, "its trial has measured what it needs"),
    CancelRequested: Reason(ReasonCode.CANCEL_REQUESTED, "cancelled on request"),
    PauseRequested: Reason(ReasonCode.PAUSE_REQUESTED, "paused on request"),
    DeadlinePassed: Reason(ReasonCode.DEADLINE_PASSED, DEADLINE.message),
    StopRequested: Reason(ReasonCode.STOP_REQUESTED, "stopped on request; its output is written"),
    ResumeRequested: Reason(ReasonCode.RESUMED, "resumed on request"),
    RetryRequested: Reason(ReasonCode.RETRY, "retried on request"),
}


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
    annotations: Mapping[str, str] = field(default_factory=dict)
    queue_time: float | None = None
    revision: int = 1
    # The spec's, each with the id of its job.
    dependencies: tuple[Dependency, ...] = ()
    # Somebody moved it before all others of its priority.
    front: bool = False
    # Where STOPPING leads: PAUSED, QUEUED, CANCELLED or FAILED; SUCCEEDED: it keeps what it has learned.
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
    lineage: Lineage | None = None
    # The trace of whoever submitted it (W3C Trace Context), empty if none.
    traceparent: str = ""

    @property
    def checkpoint(self) -> str:
        """Name of the newest checkpoint any attempt left, empty if none."""
        return next((a.checkpoint for a in reversed(self.attempts) if a.checkpoint), "")

    @property
    def probing(self) -> bool:
        """Whether its newest attempt is a trial."""
        return bool(self.attempts) and self.attempts[-1].probe


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
    trainings = sum(1 for a in job.attempts if a.failure and a.failure.failure_class in RETRYABLE)
    preparations = sum(1 for t in job.transitions if t.from_state is t.to_state is S.PREPARING)
    return trainings + preparations < job.max_retries


def _target(job: Job, event: Event) -> JobState:
    match event:
        case Prepared() | Probed() | Eased():
            return job.stop_goal or S.QUEUED
        case Placed():
            return S.STARTING
        case Running():
            return S.STOPPING if job.state is S.STOPPING else S.RUNNING
        case Waits():
            return S.QUEUED
        case Ended():
            return _after_end(job, event)
        case ResumeRequested() | RetryRequested():
            return S.QUEUED if job.prepared_directory else S.PREPARING
        case _:
            return _stop(job, event)


def _stop(job: Job, event: Event) -> JobState:
    goal, outranked = STOPS[type(event)]
    if job.stop_goal is not None and job.stop_goal not in outranked:
        raise IllegalMove(job, event)
    return S.STOPPING if job.state in LIVE else goal


def _after_end(job: Job, event: Ended) -> JobState:
    """An output that is there is a success even if a stop was asked for too late; a stop outranks a failure."""
    preparing = job.data is None and not job.attempts
    if event.outcome is Outcome.COMPLETED and not preparing:
        return S.SUCCEEDED
    if job.stop_goal is S.SUCCEEDED:
        # There is nothing to keep, or it could not be kept.
        return S.FAILED if event.outcome is Outcome.FAILED else S.CANCELLED
    if job.stop_goal is not None:
        return job.stop_goal
    if event.outcome is Outcome.STOPPED:
        return S.PREPARING if preparing else S.QUEUED
    if may_retry(job, event.failure):
        return S.PREPARING if preparing else S.QUEUED
    return S.FAILED


def _reason(job: Job, event: Event, target: JobState) -> Reason:
    if job.stop_goal not in (None, S.SUCCEEDED) and target is not S.SUCCEEDED and type(event) not in STOPS:
        return job.reason
    match event:
        case Placed(devices=devices, probe=probe):
            what = "tried out" if probe else "starting"
            return Reason(ReasonCode.PLACED, f"{what} on {', '.join(devices)}")
        case Waits(reason=reason):
            return reason
        case PreemptRequested(message=message):
            return Reason(ReasonCode.PREEMPTED, message)
        case Abandoned(message=message):
            return Reason(ReasonCode.DEPENDENCY_FAILED, message)
        case Eased(message=message):
            return Reason(ReasonCode.LESS_MEMORY, message)
        case Ended():
            return _reason_after_end(event, target)
        case _:
            return REASONS[type(event)]


def _reason_after_end(event: Ended, target: JobState) -> Reason:
    if target is S.SUCCEEDED and event.stopped_at:
        step = f"stopped on request at step {event.stopped_at} of {event.stopped_of}"
        return Reason(ReasonCode.STOPPED_EARLY, f"{step}; its output is of that step")
    if target is S.SUCCEEDED:
        return Reason(ReasonCode.COMPLETED, "completed")
    if target is S.CANCELLED:
        return Reason(ReasonCode.STOP_REQUESTED, "stopped on request before its first step: there is nothing to keep")
    if target is S.FAILED:
        return Reason(ReasonCode.FAILED, event.failure.message if event.failure else str(event.outcome))
    return Reason(ReasonCode.RETRY, event.failure.message if event.failure else "stopped from outside, goes on")


def _with_facts(job: Job, event: Event, target: JobState, now: float) -> Job:
    """What the event adds to the job besides its state."""
    match event:
        case Prepared(report=report, directory=directory, estimate=estimate, lineage=lineage):
            job = replace(job, data=report, prepared_directory=directory, estimate=estimate, lineage=lineage)
        case Placed():
            return replace(job, attempts=(*job.attempts, _attempt(job, event, now)))
        case Ended():
            job = _close_attempt(job, event, now)
        case Probed(ended=ended, estimate=estimate):
            job = replace(_close_attempt(job, ended, now), estimate=estimate)
        case Eased(ended=ended, resolved=resolved, estimate=estimate):
            job = replace(_close_attempt(job, ended, now), resolved=resolved, estimate=estimate)
        case _ if target is S.STOPPING and type(event) in STOPS:
            return _stopping(job, event)
        case _:
            pass
    if target is S.STOPPING:
        return job
    return _settled(job, event, target, now)


def _stopping(job: Job, event: Event) -> Job:
    save = event.save if isinstance(event, CancelRequested) else not isinstance(event, Abandoned)
    return replace(job, stop_goal=STOPS[type(event)][0], save_on_stop=save)


def _settled(job: Job, event: Event, target: JobState, now: float) -> Job:
    """The job where no stop is under way: what belonged to one is gone, and a failure stays only where it failed."""
    failure = job.failure if target in (S.FAILED, S.CANCELLED) else None
    if target is S.FAILED:
        missed = job.stop_goal is S.FAILED or isinstance(event, DeadlinePassed)
        failure = DEADLINE if missed else event.failure if isinstance(event, Ended) else None
    # A job that is put back in the queue keeps its age; one that somebody or its data held up begins anew.
    waits_anew = target is S.QUEUED and job.state in (S.PREPARING, S.PAUSED, S.FAILED, S.CANCELLED)
    queue_time = now if waits_anew else job.queue_time
    return replace(job, stop_goal=None, save_on_stop=False, failure=failure, queue_time=queue_time)


def _attempt(job: Job, placed: Placed, now: float) -> Attempt:
    return Attempt(
        number=len(job.attempts) + 1,
        devices=placed.devices,
        start_time=now,
        resumed_from="" if placed.probe else job.checkpoint,
        reserved_bytes=placed.reserved_bytes,
        probe=placed.probe,
        micro_batch=job.resolved.batch.micro_batch or 0,
        gradient_checkpointing=bool(job.resolved.compute.gradient_checkpointing),
        estimated_bytes=job.estimate.peak_bytes if job.estimate else 0,
    )


def _close_attempt(job: Job, event: Ended, now: float) -> Job:
    if not job.attempts or job.attempts[-1].end_time is not None:
        return job
    closed = replace(
        job.attempts[-1],
        end_time=now,
        outcome=event.outcome,
        failure=event.failure,
        checkpoint=event.checkpoint or job.attempts[-1].checkpoint,
        peak_memory_bytes=event.peak_memory_bytes,
        step_seconds=event.step_seconds,
    )
    return replace(job, attempts=(*job.attempts[:-1], closed))
