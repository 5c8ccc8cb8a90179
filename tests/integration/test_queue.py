"""The queue as its users see it: real daemon, fake trainers, declared GPUs. Who waits for what, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from tests.support.daemon import Daemon, eventually, refusal
from tests.support.gpus import GIB, declare, gpu

from finetuned.v1 import event_pb2, host_service_pb2, job_pb2, job_service_pb2

LONG = {"steps": 100_000, "step_seconds": 0.02}
# No job is left alone: it may be stopped as soon as it runs.
EAGER = {"min_run_seconds": 0}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    return declare(tmp_path / "gpus.toml", gpu(0), gpu(1))


def daemon_on(tmp_path: Path, inventory: Path, queue: dict[str, Any] | None = None, **devices: Any) -> Daemon:
    section = {"inventory": "file", "file": str(inventory), **devices}
    return Daemon(tmp_path / "root", devices=section, queue={**EAGER, **(queue or {})})


@pytest.fixture
def daemon(tmp_path: Path, inventory: Path) -> Iterator[Daemon]:
    with daemon_on(tmp_path, inventory) as daemon:
        yield daemon


def submit(daemon: Daemon, script: dict[str, Any], gib: float = 60, *, gpus: int = 1, **fields: Any) -> str:
    spec = daemon.spec(script)
    spec.training.resources.memory_bytes = int(gib * GIB)
    spec.training.resources.gpus = gpus
    json_format.ParseDict(fields, spec)
    return daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)).job.id


def code_of(daemon: Daemon, job: str) -> str:
    return job_pb2.ReasonCode.Name(daemon.get(job).reason.code).removeprefix("REASON_CODE_")


def waits_with(daemon: Daemon, job: str, code: str) -> str:
    """The message of the reason, as soon as the job waits with this code."""
    eventually(lambda: daemon.state_of(job) == "QUEUED" and code_of(daemon, job) == code)
    return daemon.get(job).reason.message


def cancel(daemon: Daemon, job: str) -> None:
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))


def soon(seconds: float) -> str:
    moment = Timestamp()
    moment.FromNanoseconds(time.time_ns() + int(seconds * 1e9))
    return moment.ToJsonString()


def told(daemon: Daemon, job: str) -> list[str]:
    return [job_pb2.ReasonCode.Name(t.reason.code).removeprefix("REASON_CODE_") for t in daemon.get(job).transitions]


# Dependencies


def test_a_pipeline_runs_in_its_order(daemon: Daemon) -> None:
    first = submit(daemon, LONG, name="first")
    daemon.until_step(first, 1)
    second = submit(daemon, {"steps": 2}, after=[{"job": "first"}])
    third = submit(daemon, {"steps": 2}, after=[{"job": second[:8], "condition": "DEPENDENCY_CONDITION_ANY"}])
    message = waits_with(daemon, second, "WAITING_FOR_JOBS")
    assert f"job {first} (first), which is running" in message
    assert [d.job for d in daemon.get(third).dependencies] == [second]
    daemon.kill()
    daemon.start()
    assert waits_with(daemon, third, "WAITING_FOR_JOBS")
    cancel(daemon, first)
    # What must have succeeded never will; what only had to end has ended.
    assert daemon.wait(second, "CANCELLED").reason.code == job_pb2.REASON_CODE_DEPENDENCY_FAILED
    daemon.wait(third, "SUCCEEDED")


def test_who_comes_after_a_failure_ends_with_it_and_so_on(daemon: Daemon) -> None:
    first = submit(daemon, {"steps": 20, "step_seconds": 0.1, "fail_at": 15})
    second = submit(daemon, {}, after=[{"job": first}])
    third = submit(daemon, {}, after=[{"job": second}], hold=True)
    reason = daemon.wait(third, "CANCELLED").reason
    assert reason.message == f"job {second} ({daemon.get(second).name}), which it comes after, has been cancelled"
    assert "has failed" in daemon.get(second).reason.message


def test_a_dependency_that_can_never_be_is_refused(daemon: Daemon) -> None:
    failed = submit(daemon, {"fail_at": 1})
    daemon.wait(failed, "FAILED")
    fields: list[str] = []
    after = [{"job": "me"}, {"job": failed}, {"job": "nobody"}]
    code, reason, message = refusal(lambda: submit(daemon, {}, name="me", after=after), fields)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SPEC")
    assert fields == ["after[0].job", "after[1].job", "after[2].job"]
    assert "is the job itself" in message
    assert "which has failed" in message


def test_a_job_that_others_come_after_is_not_deleted(daemon: Daemon) -> None:
    first = submit(daemon, {"steps": 1})
    daemon.wait(first, "SUCCEEDED")
    second = submit(daemon, {}, after=[{"job": first}], hold=True)
    delete = job_service_pb2.DeleteJobRequest(job=first)
    code, reason, message = refusal(lambda: daemon.jobs.DeleteJob(delete))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_NEEDED")
    assert second in message
    cancel(daemon, second)
    daemon.jobs.DeleteJob(delete)


# Times


def test_a_job_waits_for_its_time_through_a_restart(daemon: Daemon) -> None:
    job = submit(daemon, {"steps": 1}, notBefore=soon(4))
    assert "before 20" in waits_with(daemon, job, "NOT_BEFORE")
    daemon.kill()
    daemon.start()
    assert daemon.state_of(job) == "QUEUED"
    done = daemon.wait(job, "SUCCEEDED")
    assert done.attempts[0].start_time.ToNanoseconds() >= done.spec.not_before.ToNanoseconds()


def test_a_deadline_ends_what_waits_and_what_runs(daemon: Daemon) -> None:
    running = submit(daemon, LONG, deadline=soon(8))
    daemon.until_step(running, 1)
    waiting = submit(daemon, {}, gib=80, gpus=2, deadline=soon(3))
    for job in (running, waiting):
        ended = daemon.wait(job, "FAILED")
        assert ended.failure.failure_class == event_pb2.FAILURE_CLASS_DEADLINE_EXCEEDED
    assert daemon.get(running).attempts[0].checkpoint
    assert "deadline" in refusal(lambda: submit(daemon, {}, deadline=soon(-5)))[2]


# Preemption


def test_a_job_of_a_higher_priority_gets_room_and_the_other_goes_on(daemon: Daemon) -> None:
    low = [submit(daemon, LONG) for _ in range(2)]
    for job in low:
        daemon.until_step(job, 5)
    high = submit(daemon, {"steps": 10, "step_seconds": 0.05}, priority=5)
    daemon.wait(high, "SUCCEEDED")
    eventually(lambda: sum(len(daemon.get(job).attempts) for job in low) == 3)
    (victim,) = [job for job in low if len(daemon.get(job).attempts) == 2]
    first, second = daemon.get(victim).attempts
    assert (first.outcome, second.resumed_from) == (event_pb2.OUTCOME_STOPPED, first.checkpoint)
    (asked,) = [
        t.reason.message
        for t in daemon.get(victim).transitions
        if t.reason.code == job_pb2.REASON_CODE_PREEMPTED and t.to_state == job_pb2.JOB_STATE_STOPPING
    ]
    assert high in asked
    kept = int(first.checkpoint.removeprefix("checkpoint-"))
    daemon.until_step(victim, kept + 5)
    cancel(daemon, victim)
    daemon.wait(victim, "CANCELLED")
    steps = daemon.steps(victim)
    assert steps == list(range(1, len(steps) + 1))


def test_a_daemon_killed_in_a_preemption_ends_it(daemon: Daemon) -> None:
    low = [submit(daemon, {**LONG, "ignore_stop": True}) for _ in range(2)]
    for job in low:
        daemon.until_step(job, 1)
    high = submit(daemon, {"steps": 3}, priority=5)
    eventually(lambda: "STOPPING" in map(daemon.state_of, low))
    daemon.kill()
    daemon.start()
    daemon.wait(high, "SUCCEEDED")
    for job in low:
        daemon.wait(job, "RUNNING")
    assert sum("PREEMPTED" in told(daemon, job) for job in low) == 1


def test_a_job_is_left_alone_for_its_first_while(tmp_path: Path, inventory: Path) -> None:
    with daemon_on(tmp_path, inventory, {"min_run_seconds": 600}) as daemon:
        low = [submit(daemon, LONG), submit(daemon, LONG, preemptible=False)]
        for job in low:
            daemon.until_step(job, 1)
        high = submit(daemon, {}, priority=5)
        assert "promised to job" in waits_with(daemon, high, "NOT_ENOUGH_FREE_MEMORY")
        assert [daemon.state_of(job) for job in low] == ["RUNNING", "RUNNING"]


# Quotas and sharing


def test_a_quota_is_told_with_its_numbers(tmp_path: Path, inventory: Path) -> None:
    quotas = {"nlp": {"devices": 1, "queued": 2}, "none": {"running": 0}}
    with daemon_on(tmp_path, inventory, {"quotas": quotas, "weights": {"nlp": 2.0}}) as daemon:
        first = submit(daemon, LONG, project="nlp")
        daemon.until_step(first, 1)
        second = submit(daemon, LONG, project="nlp")
        assert "1" in waits_with(daemon, second, "QUOTA_REACHED")
        code, reason, message = refusal(lambda: submit(daemon, {}, project="nlp"))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH")
        assert message == "2 jobs of project nlp have not ended, which is its quota; cancel some, or wait"
        assert "quota is 0 running jobs" in refusal(lambda: submit(daemon, {}, project="none"))[2]
        assert "may hold 1 GPUs" in refusal(lambda: submit(daemon, {}, project="nlp", gpus=2))[2]
        use = daemon.host.ListProjects(host_service_pb2.ListProjectsRequest()).projects
        (nlp,) = [each for each in use if each.project == "nlp"]
        assert (nlp.running_jobs, nlp.queued_jobs, nlp.devices, nlp.weight, nlp.quota.devices) == (1, 1, 1, 2.0, 1)
        assert nlp.usage > 0


def test_who_wants_to_be_alone_is_alone(tmp_path: Path, inventory: Path) -> None:
    with daemon_on(tmp_path, inventory, gpu_policies={"GPU-1": "exclusive"}) as daemon:
        alone = submit(daemon, LONG, 1, training={"resources": {"sharing": "SHARING_EXCLUSIVE", "gpuUuids": ["GPU-0"]}})
        daemon.until_step(alone, 1)
        other = submit(daemon, LONG, 1)
        daemon.until_step(other, 1)
        assert list(daemon.get(other).attempts[0].devices) == ["GPU-1"]
        assert waits_with(daemon, submit(daemon, LONG, 1), "NOT_ENOUGH_FREE_DEVICES")
        host = daemon.host.GetHost(host_service_pb2.GetHostRequest())
        assert [device.max_jobs for device in host.devices] == [0, 1]


# Devices that fail


def test_a_faulty_gpu_is_quarantined_until_somebody_releases_it(daemon: Daemon, inventory: Path) -> None:
    declare(inventory, {**gpu(0), "unfit": "Xid 48"}, gpu(1))
    quarantined(daemon, 0)
    declare(inventory, gpu(0), gpu(1))
    daemon.kill()
    daemon.start()
    assert "Xid 48" in quarantined(daemon, 0)
    gang = submit(daemon, {"steps": 1}, gpus=2)
    assert "Xid 48" in waits_with(daemon, gang, "DEVICE_UNFIT")
    daemon.host.ReleaseDevice(host_service_pb2.ReleaseDeviceRequest(device="gpu 0"))
    daemon.wait(gang, "SUCCEEDED")
    daemon.host.QuarantineDevice(host_service_pb2.QuarantineDeviceRequest(device="GPU-1", reason="noisy fan"))
    assert quarantined(daemon, 1) == "in quarantine: noisy fan"
    unknown = host_service_pb2.QuarantineDeviceRequest(device="GPU 7", reason="?")
    assert refusal(lambda: daemon.host.QuarantineDevice(unknown))[1] == "DEVICE_NOT_FOUND"


def quarantined(daemon: Daemon, index: int) -> str:
    """Why a device is not fit, as soon as it is in quarantine."""

    def device() -> host_service_pb2.Device:
        return daemon.host.GetHost(host_service_pb2.GetHostRequest()).devices[index]

    eventually(lambda: device().quarantined)
    return device().unfit


def test_a_gpu_that_vanishes_takes_only_its_own_job_with_it(daemon: Daemon, inventory: Path) -> None:
    jobs = [submit(daemon, {**LONG, "checkpoint_every": 5}, 30) for _ in range(2)]
    for job in jobs:
        daemon.until_step(job, 10)
    (lost,) = [job for job in jobs if list(daemon.get(job).attempts[0].devices) == ["GPU-1"]]
    declare(inventory, gpu(0))
    daemon.host.GetHost(host_service_pb2.GetHostRequest())
    eventually(lambda: len(daemon.get(lost).attempts) == 2)
    first, second = daemon.get(lost).attempts
    assert first.failure.failure_class == event_pb2.FAILURE_CLASS_WORKER_LOST
    assert "GPU 1 was lost while it ran there" in first.failure.message
    assert (list(second.devices), second.resumed_from) == (["GPU-0"], first.checkpoint)
    (kept,) = [job for job in jobs if job != lost]
    assert len(daemon.get(kept).attempts) == 1
    assert daemon.state_of(kept) == "RUNNING"


def test_the_queue_is_shown_while_the_devices_cannot_be_read(daemon: Daemon, inventory: Path) -> None:
    running = submit(daemon, LONG, gpus=2)
    daemon.until_step(running, 1)
    waiting = submit(daemon, {"steps": 1})
    waits_with(daemon, waiting, "NOT_ENOUGH_FREE_MEMORY")
    inventory.write_text("not an inventory")
    assert "cannot be read" in waits_with(daemon, waiting, "DEVICE_UNFIT")
    (entry,) = daemon.host.GetQueue(host_service_pb2.GetQueueRequest()).jobs
    assert (entry.job, entry.reason.code) == (waiting, job_pb2.REASON_CODE_DEVICE_UNFIT)
    declare(inventory, gpu(0), gpu(1))
    cancel(daemon, running)
    daemon.wait(waiting, "SUCCEEDED")


# What is asked of it


def test_a_job_is_explained(daemon: Daemon) -> None:
    running = submit(daemon, {**LONG}, gpus=2)
    daemon.until_step(running, 20)
    first = submit(daemon, {}, priority=0)
    last = submit(daemon, {}, priority=-5)
    waits_with(daemon, first, "NOT_ENOUGH_FREE_MEMORY")

    def explain(job: str) -> job_service_pb2.ExplainJobResponse:
        return daemon.jobs.ExplainJob(job_service_pb2.ExplainJobRequest(job=job))

    eventually(lambda: explain(last).HasField("forecast"))
    answer = explain(last)
    assert answer.position == 2
    assert answer.order[0] == "priority -5"
    assert [device.fits for device in answer.devices] == [False, False]
    assert running in answer.devices[0].message
    assert answer.forecast.earliest.ToNanoseconds() <= answer.forecast.latest.ToNanoseconds()
    assert not answer.job.transitions
    assert running in explain(first).waits_for
    assert explain(running).position == 0
    daemon.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=last, priority=3, update_mask={"paths": ["priority"]}))
    assert [entry.job for entry in daemon.host.GetQueue(host_service_pb2.GetQueueRequest()).jobs] == [last, first]


def test_a_plan_says_when(daemon: Daemon) -> None:
    running = submit(daemon, LONG, gpus=2)
    daemon.until_step(running, 20)
    spec = daemon.spec(training={"resources": {"memoryBytes": str(60 * GIB)}, "schedule": {"maxSteps": "7"}})
    answer = daemon.jobs.PlanJob(job_service_pb2.PlanJobRequest(spec=spec))
    assert answer.total_steps == 7
    assert running in answer.wait_reason.message
    assert answer.forecast.expected.ToNanoseconds() > time.time_ns()
    spec.not_before.FromJsonString(soon(3600))
    assert (
        daemon.jobs.PlanJob(job_service_pb2.PlanJobRequest(spec=spec)).wait_reason.code
        == job_pb2.REASON_CODE_NOT_BEFORE
    )
