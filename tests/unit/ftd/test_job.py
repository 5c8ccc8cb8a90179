"""The state machine: every row of the table can happen, nothing else can, and what it adds to a job is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import pytest

from ftd.errors import IllegalMove
from ftd.job import Job, apply
from ftd.moves import (
    LIVE,
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
from ftd.spec import Batch, JobSpec, TrainingSpec

S = JobState
ESTIMATE = MemoryEstimate((), 10, 12, "layer", 0.1, 128, "test")
PREPARED = Prepared(DataReport(digest="d"), "/prepared/d", ESTIMATE)
PLACED = Placed(("cpu",), 12)
SMALLER = TrainingSpec(batch=Batch(micro_batch=1, global_batch=8))
KILLED = Failure(FailureClass.WORKER_KILLED, "killed by signal 9")
DIVERGED = Failure(FailureClass.LOSS_DIVERGED, "the loss is nan")
BEHIND = Reason(ReasonCode.BEHIND_OTHER_JOBS, "2 jobs are before it")


def new(*, hold: bool = False, max_retries: int = 2) -> Job:
    state = S.PAUSED if hold else S.PREPARING
    reason = Reason(ReasonCode.HELD if hold else ReasonCode.SUBMITTED, "")
    return Job(
        id="jabc234567",
        request_id="",
        spec=JobSpec(),
        resolved=TrainingSpec(),
        name="n",
        project="default",
        priority=0,
        max_retries=max_retries,
        state=state,
        reason=reason,
        create_time=0.0,
        update_time=0.0,
        transitions=(Transition(0.0, None, state, "client", reason),),
    )


def after(*events: Event, hold: bool = False, max_retries: int = 2) -> Job:
    job = new(hold=hold, max_retries=max_retries)
    for now, event in enumerate(events, start=1):
        job = apply(job, event, float(now))
    return job


def ends() -> Iterator[Ended]:
    yield Ended(Outcome.COMPLETED, checkpoint="checkpoint-9", peak_memory_bytes=5)
    yield Ended(Outcome.STOPPED, checkpoint="checkpoint-4")
    yield Ended(Outcome.FAILED, KILLED)
    yield Ended(Outcome.FAILED, DIVERGED)


EVENTS: tuple[Event, ...] = (
    PREPARED,
    PLACED,
    Running(),
    *ends(),
    Probed(Ended(Outcome.COMPLETED), ESTIMATE),
    Eased(Ended(Outcome.FAILED), SMALLER, ESTIMATE, "micro-batch 1"),
    Waits(BEHIND),
    CancelRequested(),
    CancelRequested(save=True),
    PauseRequested(),
    StopRequested(),
    PreemptRequested("makes room for job b"),
    DeadlinePassed(),
    Abandoned("job b failed"),
    ResumeRequested(),
    RetryRequested(),
)


def reachable(depth: int) -> Iterator[Job]:
    """Jobs that some sequence of events leads to; one for each situation the moves depend on."""
    seen: set[object] = set()
    front = [new(), new(hold=True)]
    for _ in range(depth):
        following = []
        for job in front:
            situation = (job.state, job.stop_goal, bool(job.prepared_directory), len(job.attempts), job.failure)
            if situation in seen:
                continue
            seen.add(situation)
            yield job
            following += [moved for event in EVENTS if (moved := move(job, event)) is not None]
        front = following


def move(job: Job, event: Event) -> Job | None:
    """The job after the event; None where the table has no such move, or a stop under way outranks it."""
    try:
        return apply(job, event, 1.0)
    except IllegalMove:
        return None


def test_the_table_is_exactly_what_can_happen() -> None:
    happened: dict[tuple[JobState, type[Event]], set[JobState]] = defaultdict(set)
    for job in reachable(depth=9):
        for event in EVENTS:
            if moved := move(job, event):
                happened[job.state, type(event)].add(moved.state)
    assert {row: set(targets) for row, targets in TABLE.items()} == happened


def test_every_other_move_is_refused_with_the_story() -> None:
    for job in reachable(depth=9):
        for event in EVENTS:
            if (job.state, type(event)) not in TABLE:
                with pytest.raises(IllegalMove, match=f"is {job.state} and cannot take {type(event).__name__}; so far"):
                    apply(job, event, 1.0)


def test_every_event_and_state_has_a_place() -> None:
    assert {kind for _, kind in TABLE} == set(get_args(Event))
    assert {state for targets in TABLE.values() for state in targets} == set(S)
    assert TERMINAL.isdisjoint(LIVE)


def test_the_way_of_a_job_that_succeeds() -> None:
    job = after(PREPARED, Waits(BEHIND), PLACED, Running(), next(ends()))
    assert [t.to_state for t in job.transitions] == [S.PREPARING, S.QUEUED, S.STARTING, S.RUNNING, S.SUCCEEDED]
    assert job.reason == Reason(ReasonCode.COMPLETED, "completed")
    assert (job.data, job.estimate, job.prepared_directory) == (PREPARED.report, ESTIMATE, "/prepared/d")
    (attempt,) = job.attempts
    assert (attempt.number, attempt.devices, attempt.reserved_bytes, attempt.start_time) == (1, ("cpu",), 12, 3.0)
    assert (attempt.end_time, attempt.outcome, attempt.peak_memory_bytes) == (5.0, Outcome.COMPLETED, 5)
    assert (job.queue_time, job.end_time, job.revision) == (1.0, 5.0, 6)


def test_a_job_that_was_stopped_and_kept_has_succeeded_and_says_where_it_stopped() -> None:
    asked = after(PREPARED, PLACED, Running(), StopRequested())
    assert (asked.state, asked.stop_goal, asked.save_on_stop) == (S.STOPPING, S.SUCCEEDED, True)
    kept = apply(asked, Ended(Outcome.COMPLETED, checkpoint="checkpoint-4", stopped_at=4, stopped_of=9), 9.0)
    assert (kept.state, kept.stop_goal) == (S.SUCCEEDED, None)
    message = "stopped on request at step 4 of 9; its output is of that step"
    assert kept.reason == Reason(ReasonCode.STOPPED_EARLY, message)
    assert apply(asked, Ended(Outcome.COMPLETED), 9.0).reason.code is ReasonCode.COMPLETED


def test_a_stop_that_keeps_nothing_is_no_success() -> None:
    asked = after(PREPARED, PLACED, Running(), StopRequested())
    nothing = apply(asked, Ended(Outcome.STOPPED), 9.0)
    assert (nothing.state, nothing.reason.code) == (S.CANCELLED, ReasonCode.STOP_REQUESTED)
    killed = apply(asked, Ended(Outcome.FAILED, KILLED), 9.0)
    assert (killed.state, killed.failure, killed.reason.message) == (S.FAILED, KILLED, KILLED.message)
    impatient = apply(apply(asked, CancelRequested(), 9.0), Ended(Outcome.STOPPED), 10.0)
    assert impatient.state is S.CANCELLED


def test_a_reason_to_wait_is_not_a_move_and_the_same_one_is_no_change() -> None:
    job = after(PREPARED, Waits(BEHIND))
    assert (job.reason, len(job.transitions)) == (BEHIND, 2)
    assert apply(job, Waits(BEHIND), 9.0) is job


def test_a_killed_worker_is_started_again_from_its_checkpoint_until_the_budget_is_gone() -> None:
    killed = Ended(Outcome.FAILED, KILLED, checkpoint="checkpoint-4")
    job = after(PREPARED, PLACED, Running(), killed, max_retries=2)
    assert (job.state, job.reason.code, job.failure) == (S.QUEUED, ReasonCode.RETRY, None)
    job = apply(job, PLACED, 9.0)
    assert (job.attempts[1].number, job.attempts[1].resumed_from) == (2, "checkpoint-4")
    for _ in range(2):
        job = apply(job, Ended(Outcome.FAILED, KILLED), 9.0)
        if job.state is S.QUEUED:
            job = apply(job, PLACED, 9.0)
    assert (job.state, len(job.attempts), job.failure) == (S.FAILED, 3, KILLED)


def test_a_failure_of_its_own_is_not_tried_again() -> None:
    job = after(PREPARED, PLACED, Running(), Ended(Outcome.FAILED, DIVERGED), max_retries=20)
    assert (job.state, job.failure, job.reason.message) == (S.FAILED, DIVERGED, "the loss is nan")


def test_preparations_and_trainings_share_the_budget() -> None:
    killed = Ended(Outcome.FAILED, KILLED)
    job = after(killed, PREPARED, PLACED, killed, max_retries=2)
    assert job.state is S.QUEUED
    assert apply(apply(job, PLACED, 9.0), killed, 9.0).state is S.FAILED
    assert after(killed, killed, killed, max_retries=2).state is S.FAILED


def test_a_pause_saves_and_its_resume_goes_on_from_there() -> None:
    job = after(PREPARED, PLACED, Running(), PauseRequested())
    assert (job.state, job.stop_goal, job.save_on_stop) == (S.STOPPING, S.PAUSED, True)
    job = apply(job, Ended(Outcome.STOPPED, checkpoint="checkpoint-4"), 8.0)
    assert (job.state, job.stop_goal, job.save_on_stop, job.reason.code) == (
        S.PAUSED,
        None,
        False,
        ReasonCode.PAUSE_REQUESTED,
    )
    job = apply(apply(job, ResumeRequested(), 9.0), PLACED, 10.0)
    assert (job.state, job.attempts[-1].resumed_from) == (S.STARTING, "checkpoint-4")


def test_a_cancel_outranks_a_pause_and_a_failure_but_not_a_success() -> None:
    stopping = after(PREPARED, PLACED, Running(), PauseRequested(), CancelRequested(save=True))
    assert (stopping.stop_goal, stopping.save_on_stop) == (S.CANCELLED, True)
    assert apply(stopping, Ended(Outcome.FAILED, KILLED), 9.0).state is S.CANCELLED
    assert apply(stopping, Ended(Outcome.COMPLETED), 9.0).state is S.SUCCEEDED


def test_a_stop_is_outranked_only_by_a_stronger_one() -> None:
    goals = {S.QUEUED: PreemptRequested(""), S.PAUSED: PauseRequested(), S.CANCELLED: CancelRequested()}
    goals[S.FAILED] = DeadlinePassed()
    stronger = {
        S.QUEUED: {S.PAUSED, S.FAILED, S.CANCELLED},
        S.PAUSED: {S.FAILED, S.CANCELLED},
        S.FAILED: {S.CANCELLED},
        S.CANCELLED: {S.CANCELLED},
    }
    for goal, event in goals.items():
        stopping = after(PREPARED, PLACED, Running(), event)
        assert stopping.stop_goal is goal
        assert {other for other, wish in goals.items() if move(stopping, wish)} == stronger[goal]


def test_a_preempted_job_waits_again_at_its_old_age_and_goes_on_from_its_checkpoint() -> None:
    job = after(PREPARED, PLACED, Running(), PreemptRequested("makes room for job b"))
    assert (job.state, job.save_on_stop, job.reason.code) == (S.STOPPING, True, ReasonCode.PREEMPTED)
    job = apply(job, Ended(Outcome.STOPPED, checkpoint="checkpoint-4"), 8.0)
    assert (job.state, job.queue_time, job.reason) == (
        S.QUEUED,
        1.0,
        Reason(ReasonCode.PREEMPTED, "makes room for job b"),
    )
    assert apply(job, PLACED, 9.0).attempts[-1].resumed_from == "checkpoint-4"


def test_a_job_past_its_deadline_fails_and_keeps_its_checkpoint() -> None:
    job = after(PREPARED, PLACED, Running(), DeadlinePassed(), Ended(Outcome.STOPPED, checkpoint="checkpoint-4"))
    assert (job.state, job.checkpoint) == (S.FAILED, "checkpoint-4")
    assert job.failure is not None
    assert job.failure.failure_class is FailureClass.DEADLINE_EXCEEDED
    waiting = after(PREPARED, DeadlinePassed())
    assert (waiting.state, waiting.failure) == (S.FAILED, job.failure)


def test_a_job_whose_dependency_failed_is_cancelled_with_the_reason() -> None:
    job = after(PREPARED, Abandoned("job b failed"))
    assert (job.state, job.reason) == (S.CANCELLED, Reason(ReasonCode.DEPENDENCY_FAILED, "job b failed"))
    preparing = after(Abandoned("job b failed"), Ended(Outcome.STOPPED))
    assert (preparing.state, preparing.reason) == (S.CANCELLED, job.reason)


def test_out_of_memory_goes_on_with_a_smaller_micro_batch_and_costs_no_retry() -> None:
    ended = Ended(Outcome.FAILED, Failure(FailureClass.OUT_OF_GPU_MEMORY, "out of memory"), peak_memory_bytes=7)
    job = after(
        PREPARED, PLACED, Running(), Eased(ended, SMALLER, ESTIMATE, "micro-batch 1 instead of 2"), max_retries=1
    )
    assert (job.state, job.resolved, job.reason.message) == (S.QUEUED, SMALLER, "micro-batch 1 instead of 2")
    assert (job.attempts[0].outcome, job.attempts[0].peak_memory_bytes) == (Outcome.FAILED, 7)
    assert apply(apply(job, PLACED, 9.0), Ended(Outcome.FAILED, KILLED), 9.0).state is S.QUEUED


def test_a_trial_leaves_its_measure_and_no_checkpoint() -> None:
    trial = replace(PLACED, probe=True)
    measured = replace(ESTIMATE, reserve_bytes=99)
    job = after(PREPARED, trial, Running(), Probed(Ended(Outcome.COMPLETED, step_seconds=0.5), measured))
    assert (job.state, job.estimate, job.checkpoint) == (S.QUEUED, measured, "")
    assert (job.attempts[0].probe, job.attempts[0].step_seconds) == (True, 0.5)


def test_a_job_stopped_while_it_is_prepared_is_prepared_when_it_goes_on() -> None:
    paused = after(PauseRequested(), Ended(Outcome.STOPPED))
    assert (paused.state, apply(paused, ResumeRequested(), 9.0).state) == (S.PAUSED, S.PREPARING)
    ready = after(PauseRequested(), PREPARED)
    assert (ready.state, apply(ready, ResumeRequested(), 9.0).state) == (S.PAUSED, S.QUEUED)


def test_a_daemon_that_died_between_decision_and_start_decides_again() -> None:
    job = after(PREPARED, PLACED, Ended(Outcome.STOPPED), max_retries=0)
    assert (job.state, job.attempts[0].outcome) == (S.QUEUED, Outcome.STOPPED)


def test_a_retry_forgets_the_failure_and_not_the_checkpoint() -> None:
    failed = after(PREPARED, PLACED, Ended(Outcome.FAILED, DIVERGED, checkpoint="checkpoint-4"))
    job = apply(failed, RetryRequested(), 9.0)
    assert (job.state, job.failure, job.end_time, job.checkpoint) == (S.QUEUED, None, None, "checkpoint-4")
    assert replace(job, state=failed.state).attempts == failed.attempts
