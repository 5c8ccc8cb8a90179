"""kill -9 of anything, at any time: no step is lost or doubled, every job ends in a state with a truthful reason."""

from __future__ import annotations

import os
import random
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, job_pb2, job_service_pb2


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


class Reader(threading.Thread):
    """Reads a job's events to their end, and goes on by seq whenever the daemon is gone."""

    def __init__(self, daemon: Daemon, job: str) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._job = job
        self.events: list[event_pb2.TrainingEvent] = []
        self.breaks = 0
        self.end: int | None = None
        self.start()

    def run(self) -> None:
        while self.end is None:
            try:
                self._read()
            # Killed, refused, or its channel closed by the test that restarts the daemon.
            except (grpc.RpcError, ValueError):
                self.breaks += 1
                threading.Event().wait(0.02)

    def _read(self) -> None:
        for message in self._daemon.stream(self._job, after_seq=len(self.events)):
            if message.events:
                assert message.first_seq == len(self.events) + 1
            self.events.extend(message.events)
            if message.HasField("end"):
                self.end = message.end.state

    def steps(self) -> list[int]:
        return [event.step.step for event in self.events if event.HasField("step")]


def keeper_of(daemon: Daemon, job: str, attempt: int = 1) -> trainer_pb2.KeeperRecord:
    path = daemon.state / "runs" / job / "attempts" / str(attempt) / "keeper.json"
    eventually(path.exists)
    return json_format.Parse(path.read_text(), trainer_pb2.KeeperRecord())


def kill_keeper(daemon: Daemon, job: str) -> None:
    os.kill(keeper_of(daemon, job).keeper.pid, signal.SIGKILL)


def kill_trainer(daemon: Daemon, job: str) -> None:
    os.kill(keeper_of(daemon, job).ranks[0].pid, signal.SIGKILL)


def kill_both(daemon: Daemon, job: str) -> None:
    record = keeper_of(daemon, job)
    for pid in (record.keeper.pid, record.ranks[0].pid):
        os.kill(pid, signal.SIGKILL)


def test_a_daemon_killed_twenty_times_loses_no_step(daemon: Daemon) -> None:
    steps = 3000
    job = daemon.submit({"steps": steps, "step_seconds": 0.008})
    daemon.wait(job, "RUNNING")
    reader = Reader(daemon, job)
    pause = random.Random(7)  # noqa: S311 - repeatable
    for _ in range(20):
        threading.Event().wait(pause.uniform(0.05, 0.6))
        daemon.kill()
        daemon.start()
    done = daemon.wait(job, "SUCCEEDED", seconds=120)
    reader.join(timeout=30)
    assert reader.steps() == list(range(1, steps + 1))
    assert reader.breaks >= 20
    assert reader.end == job_pb2.JOB_STATE_SUCCEEDED
    assert len(done.attempts) == 1
    assert done.progress.last_seq == len(reader.events)


@pytest.mark.parametrize(
    ("kill", "failure_class"),
    [
        (kill_keeper, event_pb2.FAILURE_CLASS_WORKER_LOST),
        (kill_trainer, event_pb2.FAILURE_CLASS_WORKER_KILLED),
        (kill_both, event_pb2.FAILURE_CLASS_WORKER_LOST),
    ],
)
def test_whoever_is_killed_the_job_goes_on_from_its_checkpoint(
    daemon: Daemon, kill: Callable[[Daemon, str], None], failure_class: int
) -> None:
    job = daemon.submit({"steps": 60, "step_seconds": 0.02, "checkpoint_every": 5})
    daemon.until_step(job, 12)
    kill(daemon, job)
    done = daemon.wait(job, "SUCCEEDED")
    first, second = done.attempts
    assert (first.outcome, first.failure.failure_class) == (event_pb2.OUTCOME_FAILED, failure_class)
    assert second.resumed_from == first.checkpoint
    resumed = int(first.checkpoint.removeprefix("checkpoint-"))
    assert resumed >= 10
    steps = [(event.attempt, event.step.step) for event in daemon.events(job) if event.HasField("step")]
    assert [step for attempt, step in steps if attempt == 2] == list(range(resumed + 1, 61))
    assert daemon.processes(job) == []


def test_without_retries_a_killed_trainer_fails_the_job_with_the_signal(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 1000, "step_seconds": 0.01}, maxRetries=0)
    daemon.until_step(job, 2)
    kill_trainer(daemon, job)
    failed = daemon.wait(job, "FAILED")
    assert failed.failure.failure_class == event_pb2.FAILURE_CLASS_WORKER_KILLED
    assert "SIGKILL" in failed.failure.message


def test_a_trainer_without_a_goodbye_is_not_a_success(daemon: Daemon) -> None:
    failed = daemon.wait(daemon.submit({"die_without_goodbye": 3}, maxRetries=0), "FAILED")
    assert failed.failure.failure_class == event_pb2.FAILURE_CLASS_WORKER_LOST


@pytest.mark.parametrize("kill", [kill_keeper, kill_trainer, kill_both])
def test_killed_while_the_daemon_is_away(daemon: Daemon, kill: Callable[[Daemon, str], None]) -> None:
    job = daemon.submit({"steps": 10_000, "step_seconds": 0.01}, maxRetries=0)
    daemon.until_step(job, 2)
    daemon.kill()
    kill(daemon, job)
    daemon.start()
    failed = daemon.wait(job, "FAILED")
    assert failed.failure.failure_class in (
        event_pb2.FAILURE_CLASS_WORKER_LOST,
        event_pb2.FAILURE_CLASS_WORKER_KILLED,
    )
    assert daemon.processes(job) == []


def test_a_job_that_ends_while_the_daemon_is_away_has_ended(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 50, "step_seconds": 0.01})
    daemon.until_step(job, 2)
    daemon.kill()
    eventually(lambda: not daemon.processes(job))
    daemon.start()
    done = daemon.wait(job, "SUCCEEDED")
    assert done.progress.step == 50
    assert daemon.steps(job) == list(range(1, 51))


def test_a_restart_finds_jobs_in_every_state(tmp_path: Path) -> None:
    with Daemon(tmp_path, devices={"cpu_jobs": 2}, trainer={"preparations": 4, "stop_grace_seconds": 30}) as daemon:
        running = daemon.submit({"steps": 400, "step_seconds": 0.01})
        daemon.until_step(running, 2)
        # Does not listen to the request to stop until its long step is done.
        stopping = daemon.submit({"steps": 3, "step_seconds": 4})
        daemon.wait(stopping, "RUNNING")
        daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=stopping))
        queued = daemon.submit({"steps": 3})
        daemon.wait(queued, "QUEUED")
        preparing = daemon.submit({"prepare": {"steps": 30, "step_seconds": 0.1}})
        daemon.wait(preparing, "PREPARING")
        held = daemon.submit(hold=True)
        assert daemon.state_of(stopping) == "STOPPING"
        assert daemon.stop() == 0
        assert daemon.processes(running)
        daemon.start()
        assert daemon.state_of(held) == "PAUSED"
        daemon.wait(stopping, "CANCELLED")
        for job in (running, queued, preparing):
            assert len(daemon.wait(job, "SUCCEEDED").attempts) == 1
        assert daemon.steps(running) == list(range(1, 401))


def test_killed_between_decision_and_start_at_random_moments(daemon: Daemon) -> None:
    """STARTING lasts a moment: many jobs and kills find it, and no job is lost or run twice."""
    pause = random.Random(11)  # noqa: S311 - repeatable
    jobs = []
    for _ in range(8):
        jobs += [daemon.submit({"steps": 20, "step_seconds": 0.01}) for _ in range(2)]
        threading.Event().wait(pause.uniform(0.2, 1.0))
        daemon.kill()
        daemon.start()
    for job in jobs:
        done = daemon.wait(job, "SUCCEEDED")
        assert [a.outcome for a in done.attempts[:-1]] == [event_pb2.OUTCOME_STOPPED] * (len(done.attempts) - 1)
        assert daemon.steps(job) == list(range(1, 21))


def test_an_acknowledged_job_survives_the_kill_that_follows(daemon: Daemon) -> None:
    for _ in range(5):
        job = daemon.submit(hold=True)
        daemon.kill()
        daemon.start()
        assert daemon.state_of(job) == "PAUSED"


def test_what_a_job_writes_into_its_journal_cannot_end_the_daemon(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 50, "step_seconds": 0.02})
    daemon.until_step(job, 3)
    body = b"\xff\xff\xff\xff"
    record = b"\x0a" + bytes([len(body)]) + body + b"\x15" + zlib.crc32(body).to_bytes(4, "little")
    with (daemon.state / "runs" / job / "events.journal").open("ab") as journal:
        journal.write(record)
    daemon.wait(job, "SUCCEEDED")
    daemon.kill()
    daemon.start()
    assert daemon.state_of(job) == "SUCCEEDED"


def test_a_damaged_journal_is_told_and_its_beginning_is_kept(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 400})
    daemon.wait(job, "SUCCEEDED")
    path = daemon.state / "runs" / job / "events.journal"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    seen: list[event_pb2.TrainingEvent] = []
    code, reason, _ = refusal(lambda: [seen.extend(message.events) for message in daemon.stream(job)])
    assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "JOURNAL_CORRUPT")
    assert len(seen) > 100
