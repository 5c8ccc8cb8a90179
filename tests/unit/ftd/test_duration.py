"""How long a job takes, by the best source there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftd.datasets import Data
from ftd.duration import START_SECONDS, remaining, total_steps, total_tokens
from ftd.job import Job
from ftd.records import Attempt, DataReport, JobState, MemoryEstimate, Progress, Reason, ReasonCode, SplitReport
from ftd.spec import Batch, JobSpec, Resources, Schedule, TrainingSpec

TRAINING = TrainingSpec(
    data=Data(max_length=100), schedule=Schedule(epochs=3.0), batch=Batch(micro_batch=2, global_batch=8)
)
# 20 rows are 3 updates an epoch.
REPORT = DataReport(train=SplitReport(rows=20, tokens=1000))


def job(**changes: object) -> Job:
    fresh = Job(
        id="jabc234567",
        request_id="",
        spec=JobSpec(),
        resolved=TRAINING,
        name="n",
        project="default",
        priority=0,
        max_retries=2,
        state=JobState.QUEUED,
        reason=Reason(ReasonCode.PREPARED, ""),
        create_time=0.0,
        update_time=0.0,
        data=REPORT,
        estimate=MemoryEstimate((), 1, 1, "", 0.0, 100, "", token_operations=1e6),
    )
    return replace(fresh, **changes)  # type: ignore[arg-type]


def run(step_seconds: float, *, micro_batch: int = 2, checkpoint: str = "") -> Attempt:
    return Attempt(1, ("cpu",), 0.0, 1.0, step_seconds=step_seconds, micro_batch=micro_batch, checkpoint=checkpoint)


def test_steps_follow_the_rows_the_packed_tokens_or_the_spec() -> None:
    assert total_steps(TRAINING, REPORT) == 9
    packed = replace(TRAINING, data=Data(max_length=100, packing=True))
    assert total_steps(packed, REPORT) == 3 * 2
    assert total_steps(replace(TRAINING, schedule=Schedule(max_steps=7)), None) == 7
    assert total_steps(TRAINING, None) == 0
    assert total_steps(replace(TRAINING, schedule=Schedule(epochs=0.5)), REPORT) == 2


def test_tokens_are_those_of_all_updates() -> None:
    assert total_tokens(TRAINING, REPORT) == 9 * 8 * 50
    assert total_tokens(TRAINING, None) == 0


def test_the_run_itself_knows_best() -> None:
    told = remaining(job(attempts=(run(9.0),)), Progress(eta_seconds=12.0), [5.0], 1e9)
    assert told is not None
    assert (told.seconds, told.basis) == (12.0, "measured in this run")


def test_a_job_that_goes_on_does_what_is_left_at_its_own_pace() -> None:
    told = remaining(job(attempts=(run(2.0, checkpoint="checkpoint-4"),)), Progress(total_steps=9), [5.0])
    assert told is not None
    assert (told.seconds, told.basis) == (START_SECONDS + 5 * 2.0, "measured in its last run")


def test_a_run_with_another_micro_batch_says_nothing_of_this_one() -> None:
    told = remaining(job(attempts=(run(9.0, micro_batch=4),)), Progress(), [5.0, 1.0, 2.0])
    assert told is not None
    assert (told.seconds, told.basis) == (START_SECONDS + 9 * 2.0, "measured in 3 earlier runs of this shape")


def test_arithmetic_comes_last_and_is_the_least_certain() -> None:
    told = remaining(job(), Progress(), device_speed=1e8)
    assert told is not None
    assert told.seconds == pytest.approx(START_SECONDS + 9 * 8 * 50 * 1e6 / 1e8)
    measured = remaining(job(), Progress(), [1.0])
    assert measured is not None
    assert told.uncertainty > measured.uncertainty
    two = remaining(job(resolved=replace(TRAINING, resources=Resources(gpus=2))), Progress(), device_speed=1e8)
    assert two is not None
    assert two.seconds - START_SECONDS == pytest.approx((told.seconds - START_SECONDS) / 2)


def test_nobody_knows_without_data_or_speed() -> None:
    assert remaining(job(data=None), Progress(), [1.0], 1e9) is None
    assert remaining(job(), Progress()) is None
