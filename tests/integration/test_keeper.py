"""A real keeper over a real process that trains nothing: every end is told truthfully, and no process is left."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.attempts import Attempt, eventually

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2

ENDLESS = {"steps": 1_000_000, "step_seconds": 0.01}
Begin = Callable[..., Attempt]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts an attempt of the script given; whatever a failed test leaves behind is ended."""
    attempts: list[Attempt] = []

    def start(script: dict[str, Any], **fields: Any) -> Attempt:
        attempts.append(Attempt(tmp_path, script, **fields))
        return attempts[-1].start()

    yield start
    for attempt in attempts:
        for pid in attempt.alive():
            os.kill(pid, signal.SIGKILL)
        if attempt.keeper is not None:
            attempt.keeper.wait()


def test_completed(begin: Begin) -> None:
    attempt = begin({"steps": 10, "checkpoint_every": 4})
    ended = attempt.ended()
    assert ended.outcome == event_pb2.OUTCOME_COMPLETED
    assert not ended.HasField("failure")
    assert ended.checkpoint == "checkpoint-8"
    assert ended.peak_memory_bytes > 0
    assert attempt.steps() == list(range(1, 11))
    assert (attempt.run / "output" / "manifest.json").exists()


def test_preparation_hands_on_what_it_found(begin: Begin, tmp_path: Path) -> None:
    word = begin({}, number=0).wait()
    assert word.ended.outcome == event_pb2.OUTCOME_COMPLETED
    assert word.prepared_directory == str(tmp_path / "prepared" / "fake")
    assert word.data.train.rows == 64


def test_failed(begin: Begin) -> None:
    attempt = begin({"fail_at": 3})
    ended = attempt.ended()
    assert ended.outcome == event_pb2.OUTCOME_FAILED
    assert ended.failure.failure_class == event_pb2.FAILURE_CLASS_INTERNAL
    assert ended.failure.message == "RuntimeError: the script says to fail at step 3"
    assert any("RuntimeError" in line.text for line in attempt.lines())


def test_out_of_memory(begin: Begin) -> None:
    ended = begin({"oom_at": 3, "checkpoint_every": 1}).ended()
    assert ended.failure.failure_class == event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY
    assert ended.checkpoint == "checkpoint-2"


def test_exit_without_a_word(begin: Begin) -> None:
    attempt = begin({"die_without_goodbye": 3, "checkpoint_every": 1})
    ended = attempt.ended()
    assert ended.failure.failure_class == event_pb2.FAILURE_CLASS_WORKER_LOST
    assert ended.failure.message == "rank 0 exited with status 3 without a word"
    # Nobody said so, but its manifest is there.
    assert ended.checkpoint == "checkpoint-2"


def test_killed_rank(begin: Begin) -> None:
    attempt = begin(ENDLESS)
    attempt.until_step(3)
    os.kill(attempt.ranks()[0], signal.SIGKILL)
    word = attempt.wait()
    assert word.ended.failure.failure_class == event_pb2.FAILURE_CLASS_WORKER_KILLED
    assert "signal 9 (SIGKILL)" in word.ended.failure.message
    assert list(word.rank_statuses) == [-9]


def test_killed_keeper_takes_its_ranks_along(begin: Begin) -> None:
    attempt = begin(ENDLESS, ranks=2)
    attempt.until_step(3)
    attempt.signal_keeper(signal.SIGKILL)
    eventually(lambda: not attempt.alive())
    assert not (attempt.folder / "exit.json").exists()


def test_keeper_and_rank_killed(begin: Begin) -> None:
    attempt = begin(ENDLESS)
    attempt.until_step(3)
    rank = attempt.ranks()[0]
    attempt.signal_keeper(signal.SIGKILL)
    os.kill(rank, signal.SIGKILL)
    eventually(lambda: not attempt.alive())


@pytest.mark.parametrize("save", [True, False])
def test_stop(begin: Begin, save: bool) -> None:
    attempt = begin(ENDLESS)
    attempt.until_step(3)
    attempt.stop(save=save)
    ended = attempt.ended()
    assert ended.outcome == event_pb2.OUTCOME_STOPPED
    assert ended.checkpoint == (f"checkpoint-{attempt.steps()[-1]}" if save else "")


def test_host_shutdown_saves(begin: Begin) -> None:
    attempt = begin(ENDLESS)
    attempt.until_step(3)
    attempt.stop(save=None)
    assert attempt.ended().checkpoint == f"checkpoint-{attempt.steps()[-1]}"
    assert attempt.read("stop.json", trainer_pb2.StopRequest).save


def test_stop_before_the_rank_listens(begin: Begin) -> None:
    attempt = begin(ENDLESS)
    attempt.ranks()
    attempt.stop(save=False)
    assert attempt.ended().outcome == event_pb2.OUTCOME_STOPPED
    assert attempt.wait().rank_statuses[0] == 0


def test_stop_of_a_rank_that_does_not_listen(begin: Begin) -> None:
    attempt = begin({**ENDLESS, "ignore_stop": True}, stop_grace_seconds=0.2)
    attempt.until_step(3)
    attempt.stop(save=True)
    # To ask again neither shortens the time nor begins it anew.
    attempt.stop(save=False)
    word = attempt.wait()
    assert word.ended.outcome == event_pb2.OUTCOME_STOPPED
    assert list(word.rank_statuses) == [-15]


def test_stop_of_a_rank_that_ignores_sigterm(begin: Begin) -> None:
    script = {**ENDLESS, "hang_at": 3, "ignore_sigterm": True}
    attempt = begin(script, stop_grace_seconds=0.2, kill_grace_seconds=0.2)
    attempt.until_step(2)
    attempt.stop(save=True)
    word = attempt.wait()
    assert word.ended.outcome == event_pb2.OUTCOME_STOPPED
    assert list(word.rank_statuses) == [-9]


def test_orphans_in_sessions_of_their_own_are_ended(begin: Begin) -> None:
    attempt = begin({"steps": 50, "step_seconds": 0.01, "stubborn_children": True})
    # keeper, rank, child, grandchild
    eventually(lambda: len(attempt.alive()) == 4)
    assert attempt.ended().outcome == event_pb2.OUTCOME_COMPLETED


def test_one_of_two_ranks_fails(begin: Begin) -> None:
    attempt = begin({**ENDLESS, "rank": 1, "fail_at": 5}, ranks=2)
    word = attempt.wait()
    assert word.ended.outcome == event_pb2.OUTCOME_FAILED
    assert word.ended.failure.rank == 1
    assert list(word.rank_statuses) == [-15, 1]


def test_failure_outlives_a_rank_that_ignores_sigterm(begin: Begin) -> None:
    script = {**ENDLESS, "ignore_sigterm": True}
    attempt = begin(script, ranks=2, kill_grace_seconds=0.2)
    attempt.until_step(3)
    os.kill(attempt.ranks()[1], signal.SIGSEGV)
    word = attempt.wait()
    assert "rank 1 was killed by signal 11 (SIGSEGV)" in word.ended.failure.message
    assert list(word.rank_statuses) == [-9, -11]


def test_flood_of_output(begin: Begin) -> None:
    attempt = begin({"steps": 20, "print_lines": 5000, "print_bytes": 100})
    attempt.wait()
    lines = attempt.lines()
    assert len(lines) == 100_000
    assert lines[-1].text.startswith("step 20 line 4999")


def test_endless_flood_is_stopped_and_needs_little_memory(begin: Begin) -> None:
    attempt = begin({**ENDLESS, "step_seconds": 0, "print_lines": 5000, "print_bytes": 100_000})
    journal = attempt.run / "logs.journal"
    eventually(lambda: journal.exists() and journal.stat().st_size > 30 << 20)
    assert attempt.keeper is not None
    status = Path(f"/proc/{attempt.keeper.pid}/status").read_text()
    assert int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) < 64 << 10
    attempt.stop(save=False)
    assert attempt.ended().outcome == event_pb2.OUTCOME_STOPPED
    assert all(len(line.text.encode()) <= 8192 for line in attempt.lines())


def test_program_that_cannot_be_started(begin: Begin) -> None:
    attempt = begin({}, command=["/nowhere/python"])
    ended = attempt.ended()
    assert ended.failure.failure_class == event_pb2.FAILURE_CLASS_INTERNAL
    assert ended.failure.message == "the trainer could not be started: No such file or directory"


def test_two_attempts_share_the_journals(begin: Begin, tmp_path: Path) -> None:
    first = begin({"steps": 10, "fail_at": 7, "checkpoint_every": 5})
    first.ended()
    # A writer that was killed in the middle of a record.
    with (first.run / "events.journal").open("ab") as journal:
        journal.write(b"\x0a\x7f\x08")
    second = begin({"steps": 10}, number=2, resume_from="checkpoint-5")
    assert second.ended().outcome == event_pb2.OUTCOME_COMPLETED
    assert second.steps() == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10]
