"""How an attempt ended, told from how its ranks ended. Pure: it must not touch a process or a file."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2


class Ended(NamedTuple):
    """The end of one rank: exit status (negative: signal), when, its last word if any, and whether we ended it."""

    rank: int
    status: int
    time: float
    result: trainer_pb2.RankResult | None
    forced: bool

    @property
    def failed(self) -> bool:
        """It failed by its own word, or left without one and not because of us."""
        if self.result is not None:
            return self.result.outcome == event_pb2.OUTCOME_FAILED
        return not self.forced

    @property
    def failure_time(self) -> float:
        """When it failed: what it says itself is earlier than what we saw."""
        return self.time if self.result is None else self.result.time.ToNanoseconds() / 1e9


def judge(
    ranks: Sequence[Ended], checkpoint: str, *, disk_full: bool, host_cap_bytes: int = 0
) -> event_pb2.AttemptEnded:
    """The verdict over all ranks.

    `checkpoint` counts where no rank named one; `disk_full` explains a silent exit, `host_cap_bytes` a SIGKILL: it is
    the bound on the host's memory if the kernel has killed a rank for it, else 0.
    """
    words = [rank.result for rank in ranks if rank.result is not None]
    ended = event_pb2.AttemptEnded(
        checkpoint=next((word.checkpoint for word in words if word.checkpoint), checkpoint),
        peak_memory_bytes=max((word.peak_memory_bytes for word in words), default=0),
        step_seconds=max((word.step_seconds for word in words), default=0.0),
    )
    failed = sorted((rank for rank in ranks if rank.failed), key=lambda rank: rank.failure_time)
    if failed:
        ended.outcome = event_pb2.OUTCOME_FAILED
        ended.failure.CopyFrom(_failure(failed[0], disk_full=disk_full, host_cap_bytes=host_cap_bytes))
    # Rank 0 writes the output: what it completed is complete.
    elif first := next((w for w in words if w.rank == 0 and w.outcome == event_pb2.OUTCOME_COMPLETED), None):
        ended.outcome = event_pb2.OUTCOME_COMPLETED
        ended.stopped_at, ended.stopped_of = first.stopped_at, first.stopped_of
    else:
        ended.outcome = event_pb2.OUTCOME_STOPPED
    return ended


def _failure(first: Ended, *, disk_full: bool, host_cap_bytes: int) -> event_pb2.Failure:
    if first.result is not None:
        failure = event_pb2.Failure()
        failure.CopyFrom(first.result.failure)
        failure.rank = first.rank
        # A failure always has a class: the daemon acts on it.
        failure.failure_class = failure.failure_class or event_pb2.FAILURE_CLASS_INTERNAL
        return failure
    if host_cap_bytes and first.status == -signal.SIGKILL:
        return event_pb2.Failure(
            failure_class=event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY,
            message=f"rank {first.rank} needed more than the {host_cap_bytes / 2**30:.1f} GiB reserved on the host",
            advice="lower batch.micro_batch or data.max_length, or use a smaller model",
            rank=first.rank,
        )
    if first.status < 0:
        return event_pb2.Failure(
            failure_class=event_pb2.FAILURE_CLASS_WORKER_KILLED,
            message=f"rank {first.rank} was killed by {_signal_name(-first.status)}, which the daemon did not send",
            advice="if nobody killed it, the host may have run out of memory: see the kernel's log, then retry the job",
            rank=first.rank,
        )
    if disk_full:
        return event_pb2.Failure(
            failure_class=event_pb2.FAILURE_CLASS_DISK_FULL,
            message="the disk of the run directory is full",
            advice="free space below the daemon's state directory, then retry the job",
            rank=first.rank,
        )
    return event_pb2.Failure(
        failure_class=event_pb2.FAILURE_CLASS_WORKER_LOST,
        message=f"rank {first.rank} exited with status {first.status} without a word",
        advice="the job's log has what it printed last",
        rank=first.rank,
    )


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
