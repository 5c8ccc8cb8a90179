"""How an attempt ended, told from its ranks."""

from __future__ import annotations

from typing import Any

import pytest

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain.verdict import Ended, judge

OOM = event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY


def rank(number: int, status: int, time: float = 1.0, *, forced: bool = False) -> Ended:
    """A rank that left no word."""
    return Ended(number, status, time, None, forced)


def word(number: int, outcome: event_pb2.Outcome.ValueType, time: float = 1.0, **fields: Any) -> Ended:
    result = trainer_pb2.RankResult(rank=number, outcome=outcome, **fields)
    result.time.FromNanoseconds(int(time * 1e9))
    return Ended(number, int(outcome == event_pb2.OUTCOME_FAILED), time + 0.1, result, False)


def completed(number: int, **fields: Any) -> Ended:
    return word(number, event_pb2.OUTCOME_COMPLETED, **fields)


def stopped(number: int, **fields: Any) -> Ended:
    return word(number, event_pb2.OUTCOME_STOPPED, **fields)


def failed(number: int, time: float = 1.0, failure_class: event_pb2.FailureClass.ValueType = OOM) -> Ended:
    failure = event_pb2.Failure(failure_class=failure_class, message=f"rank {number} says so")
    return word(number, event_pb2.OUTCOME_FAILED, time, failure=failure)


def verdict(*ranks: Ended, checkpoint: str = "", disk_full: bool = False) -> event_pb2.AttemptEnded:
    return judge(ranks, checkpoint, disk_full=disk_full)


def test_all_completed() -> None:
    ended = verdict(completed(0, checkpoint="checkpoint-9", peak_memory_bytes=3), completed(1, peak_memory_bytes=5))
    assert ended == event_pb2.AttemptEnded(
        outcome=event_pb2.OUTCOME_COMPLETED, checkpoint="checkpoint-9", peak_memory_bytes=5
    )


@pytest.mark.parametrize("other", [stopped(1), rank(1, -9, forced=True)])
def test_what_rank_0_completed_is_complete(other: Ended) -> None:
    assert verdict(completed(0), other).outcome == event_pb2.OUTCOME_COMPLETED


@pytest.mark.parametrize("ranks", [(stopped(0), stopped(1)), (stopped(0), completed(1)), (rank(0, -15, forced=True),)])
def test_stopped(ranks: tuple[Ended, ...]) -> None:
    assert verdict(*ranks, checkpoint="checkpoint-3").checkpoint == "checkpoint-3"
    assert verdict(*ranks).outcome == event_pb2.OUTCOME_STOPPED


def test_the_rank_that_failed_first_is_blamed() -> None:
    timeout = event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT
    assert verdict(failed(0, 5.0, timeout), failed(1, 4.0)).failure.rank == 1
    assert verdict(failed(0, 5.0, timeout), rank(1, -9, 4.0)).failure.message.startswith(
        "rank 1 was killed by signal 9"
    )
    assert verdict(failed(0, 3.0), rank(1, -15, 4.0, forced=True)).failure.rank == 0


def test_a_failure_outranks_what_others_completed() -> None:
    assert verdict(completed(0), failed(1)).outcome == event_pb2.OUTCOME_FAILED


@pytest.mark.parametrize(
    ("ended", "disk_full", "failure_class", "message"),
    [
        (rank(0, -9), False, "WORKER_KILLED", "rank 0 was killed by signal 9 (SIGKILL), which the daemon did not send"),
        (
            rank(0, -64),
            False,
            "WORKER_KILLED",
            "rank 0 was killed by signal 64 (SIGRTMAX), which the daemon did not send",
        ),
        (rank(0, 0), False, "WORKER_LOST", "rank 0 exited with status 0 without a word"),
        (rank(0, 1), False, "WORKER_LOST", "rank 0 exited with status 1 without a word"),
        (rank(0, 1), True, "DISK_FULL", "the disk of the run directory is full"),
        (rank(0, -9), True, "WORKER_KILLED", "rank 0 was killed by signal 9 (SIGKILL), which the daemon did not send"),
        (failed(0, failure_class=event_pb2.FAILURE_CLASS_UNSPECIFIED), False, "INTERNAL", "rank 0 says so"),
    ],
)
def test_failures(ended: Ended, disk_full: bool, failure_class: str, message: str) -> None:
    failure = verdict(ended, disk_full=disk_full).failure
    assert failure.failure_class == event_pb2.FailureClass.Value(f"FAILURE_CLASS_{failure_class}")
    assert failure.message == message
