"""Saving now, and stopping with what was learned: the calls, what the job says, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.daemon import Daemon, eventually
from tests.support.hands import ftctl

from finetuned.v1 import artifact_service_pb2, job_service_pb2

# Steps that come one by one, far more than any test waits for.
ENDLESS = {"steps": 100_000, "step_seconds": 0.05}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


def checkpoints(daemon: Daemon, job: str) -> list[int]:
    answer = daemon.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(job=job))
    return [artifact.step for artifact in answer.artifacts if artifact.name.startswith("checkpoint")]


def running(daemon: Daemon, **script: object) -> str:
    """A job that has made a step."""
    job = daemon.submit(ENDLESS | script)
    eventually(lambda: daemon.get(job).progress.step > 0)
    return job


def test_a_checkpoint_is_saved_and_the_job_goes_on(daemon: Daemon) -> None:
    job = running(daemon)
    answer = daemon.jobs.SaveCheckpoint(job_service_pb2.SaveCheckpointRequest(job=job))
    assert answer.job.id == job
    eventually(lambda: len(checkpoints(daemon, job)) == 1)
    saved = checkpoints(daemon, job)[0]
    eventually(lambda: daemon.get(job).progress.step > saved + 3)
    assert checkpoints(daemon, job) == [saved]
    assert len(daemon.get(job).attempts) == 1
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))


def test_a_stopped_job_has_succeeded_with_the_output_of_its_step(daemon: Daemon) -> None:
    job = running(daemon)
    daemon.jobs.StopJob(job_service_pb2.StopJobRequest(job=job))
    daemon.wait(job, "SUCCEEDED")
    ended = daemon.get(job)
    step = ended.progress.step
    assert ended.reason.message == f"stopped on request at step {step} of 100000; its output is of that step"
    assert (Path(ended.output_path) / "manifest.json").exists()
    assert ended.attempts[0].checkpoint == f"checkpoint-{step}"


def test_a_stop_is_kept_over_a_restart_of_the_daemon(daemon: Daemon) -> None:
    job = running(daemon, ignore_stop=True)
    daemon.jobs.StopJob(job_service_pb2.StopJobRequest(job=job))
    daemon.kill()
    daemon.start()
    # Longer than the grace of two seconds that any other stop has: nothing was forced.
    before = daemon.get(job).progress.step
    eventually(lambda: daemon.get(job).progress.step > before + 60)
    assert daemon.get(job).reason.message == "stopped on request; its output is written"
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))
    daemon.wait(job, "CANCELLED")


@pytest.mark.parametrize("call", ["SaveCheckpoint", "StopJob"])
def test_a_job_that_does_not_train_can_neither_be_saved_nor_stopped(daemon: Daemon, call: str) -> None:
    job = daemon.submit({"steps": 1})
    daemon.wait(job, "SUCCEEDED")
    with pytest.raises(grpc.RpcError) as caught:
        getattr(daemon.jobs, call)(getattr(job_service_pb2, f"{call}Request")(job=job))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    verb = "save" if call == "SaveCheckpoint" else "stop"
    expected = f"cannot {verb} job {job}: it is succeeded; {verb} needs a job that is running"
    assert caught.value.details() == expected


def test_the_commands_say_what_was_saved_and_what_stops(daemon: Daemon) -> None:
    job = running(daemon)
    address = f"unix:{daemon.socket}"
    name = ftctl(daemon.root, "save", job, "-q", FTD_ADDRESS=address).ok.strip()
    assert name == f"checkpoint-{checkpoints(daemon, job)[0]}"
    said = ftctl(daemon.root, "stop", job, FTD_ADDRESS=address).ok
    assert said.split()[-1] in ("stopping", "succeeded")
    daemon.wait(job, "SUCCEEDED")
    refused = ftctl(daemon.root, "save", job, FTD_ADDRESS=address)
    assert refused.code == 6
    assert "save needs a job that is running" in refused.err
