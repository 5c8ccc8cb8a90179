"""Memory in a real daemon over the fake trainer: jobs that run out of it, are tried out, and teach the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.support.daemon import Daemon

from finetuned.v1 import event_pb2, job_pb2, job_service_pb2

GIB = 2**30


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


def submit(daemon: Daemon, script: dict[str, Any], micro_batch: int = 4, *, probe: str = "NEVER") -> str:
    """A job whose memory is estimated, of the same shape whatever its file of rows is."""
    spec = daemon.spec(script, probe=f"PROBE_{probe}", max_retries=0)
    spec.training.resources.ClearField("memory_bytes")
    json_format.ParseDict({"training": {"batch": {"micro_batch": micro_batch, "global_batch": 8}}}, spec)
    return daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)).job.id


def tried(job: job_pb2.Job) -> list[tuple[int, bool, str]]:
    """Of each attempt: micro-batch, recomputation, checkpoint it began from."""
    return [(each.micro_batch, each.gradient_checkpointing, each.resumed_from) for each in job.attempts]


def test_out_of_memory_is_the_same_job_in_smaller_parts(daemon: Daemon) -> None:
    job = submit(daemon, {"steps": 10, "checkpoint_every": 3, "oom_at": 5, "fits": 1})
    steps = daemon.steps(job)
    done = daemon.wait(job, "SUCCEEDED")
    assert tried(done) == [(4, False, ""), (2, False, "checkpoint-3"), (1, False, "checkpoint-3")]
    assert steps == [1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 10]
    said = [move.reason.message for move in done.transitions if move.reason.code == job_pb2.REASON_CODE_LESS_MEMORY]
    assert said == [
        "out of memory at step 5; goes on with batch.micro_batch 4 → 2, each update in 4 parts",
        "out of memory at step 5; goes on with batch.micro_batch 2 → 1, each update in 8 parts",
    ]
    # As it was submitted, and as it was trained.
    assert (done.spec.training.batch.micro_batch, done.resolved.batch.micro_batch) == (4, 1)
    assert done.resolved.batch.global_batch == 8
    # What was too little is never lessened.
    reserved = [each.reserved_bytes for each in done.attempts]
    assert reserved == sorted(reserved)


def test_where_nothing_helps_the_end_is_clear(daemon: Daemon) -> None:
    job = submit(daemon, {"oom_at": 2}, micro_batch=2)
    failed = daemon.wait(job, "FAILED")
    assert tried(failed) == [(2, False, ""), (1, False, ""), (1, True, "")]
    assert failed.failure.failure_class == event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY
    assert failed.failure.message == "out of memory at step 2"
    assert failed.failure.advice.endswith("shorten data.max_length, or use a smaller model")


def test_a_trial_comes_first_and_leaves_no_trace_in_the_metrics(daemon: Daemon) -> None:
    job = submit(daemon, {"steps": 6, "step_seconds": 0.01, "peak_bytes": 2 * GIB}, probe="ALWAYS")
    assert daemon.steps(job) == [1, 2, 3, 4, 5, 6]
    done = daemon.wait(job, "SUCCEEDED")
    assert [(each.probe, each.outcome) for each in done.attempts] == [
        (True, event_pb2.OUTCOME_COMPLETED),
        (False, event_pb2.OUTCOME_COMPLETED),
    ]
    assert done.attempts[0].step_seconds > 0
    assert done.estimate.basis == "measured in a trial"
    # 2 GiB, 1.5 of them the interpreter's; 20 % and 0.25 GiB more for what the trial did not see.
    assert done.attempts[1].reserved_bytes == 2 * GIB + int(0.2 * GIB / 2) + GIB // 4
    codes = [move.reason.code for move in done.transitions]
    assert codes.count(job_pb2.REASON_CODE_PROBED) == 1


def test_a_trial_that_runs_out_of_memory_is_tried_again_with_less(daemon: Daemon) -> None:
    job = submit(daemon, {"oom_at": 2, "fits": 2}, probe="ALWAYS")
    done = daemon.wait(job, "SUCCEEDED")
    assert [(each.probe, each.micro_batch) for each in done.attempts] == [(True, 4), (True, 2), (False, 2)]


def test_what_was_measured_is_learned_for_good(daemon: Daemon) -> None:
    script = {"steps": 3, "peak_bytes": 4 * GIB}
    first = daemon.wait(submit(daemon, script), "SUCCEEDED")
    assert "learned correction" not in [term.name for term in first.estimate.terms]
    daemon.kill()
    daemon.start()
    second = daemon.wait(submit(daemon, script), "SUCCEEDED")
    learned = next(term for term in second.estimate.terms if term.name == "learned correction")
    assert learned.bytes > 2 * GIB
    assert second.estimate.reserve_bytes >= 4 * GIB
    assert sum(term.bytes for term in second.estimate.terms) == second.estimate.reserve_bytes
