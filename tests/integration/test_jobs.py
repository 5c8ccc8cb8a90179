"""The life of a job, seen by a client of a real daemon over the fake trainer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.v1 import (
    artifact_service_pb2,
    dataset_service_pb2,
    event_pb2,
    host_service_pb2,
    job_pb2,
    job_service_pb2,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


def cancel(daemon: Daemon, job: str, *, save: bool = False) -> job_pb2.Job:
    return daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job, save=save)).job


def test_a_job_runs_to_its_end_with_every_step_streamed(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 300}, name="walk")
    events = daemon.events(job)
    assert [event.step.step for event in events if event.HasField("step")] == list(range(1, 301))
    assert events[-1].ended.outcome == event_pb2.OUTCOME_COMPLETED
    done = daemon.get("walk")
    assert job_pb2.JobState.Name(done.state) == "JOB_STATE_SUCCEEDED"
    assert (done.progress.step, done.progress.last_seq) == (300, len(events))
    assert Path(done.output_path, "adapter_config.json").exists()
    assert [t.actor for t in done.transitions] == ["client", "daemon", "daemon", "daemon", "daemon"]
    assert done.attempts[0].resumed_from == ""
    listed = daemon.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(job=job)).artifacts
    assert [(a.kind, a.name) for a in listed] == [(artifact_service_pb2.ARTIFACT_KIND_ADAPTER, "output")]
    report = daemon.data.GetDataReport(dataset_service_pb2.GetDataReportRequest(job=job)).report
    assert report.train.rows == 64


def test_a_failing_job_says_why(daemon: Daemon) -> None:
    job = daemon.submit({"fail_at": 3})
    failed = daemon.wait(job, "FAILED")
    assert failed.failure.failure_class == event_pb2.FAILURE_CLASS_INTERNAL
    assert "the script says to fail at step 3" in failed.failure.message
    assert failed.reason.code == job_pb2.REASON_CODE_FAILED
    assert daemon.steps(job) == [1, 2]


def test_a_preparation_that_fails_ends_the_job_before_any_device(daemon: Daemon) -> None:
    failed = daemon.wait(daemon.submit({"prepare": {"fail_at": 1}}), "FAILED")
    assert len(failed.attempts) == 0


def test_cancel_ends_the_whole_tree_and_keeps_what_was_asked(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 10_000, "step_seconds": 0.01, "stubborn_children": True})
    daemon.until_step(job, 5)
    # Not at once: a process shows no environment for a moment after its exec.
    eventually(lambda: len(daemon.processes(job)) >= 4)
    assert cancel(daemon, job, save=True).state in (job_pb2.JOB_STATE_STOPPING, job_pb2.JOB_STATE_CANCELLED)
    done = daemon.wait(job, "CANCELLED")
    assert daemon.processes(job) == []
    assert done.attempts[0].checkpoint == f"checkpoint-{done.progress.step}"
    assert done.reason.code == job_pb2.REASON_CODE_CANCEL_REQUESTED
    code, reason, _ = refusal(lambda: cancel(daemon, job))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_FINISHED")


def test_cancel_of_a_trainer_that_does_not_listen(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 10_000, "step_seconds": 0.01, "ignore_stop": True, "ignore_sigterm": True})
    daemon.until_step(job, 2)
    cancel(daemon, job)
    daemon.wait(job, "CANCELLED")
    assert daemon.processes(job) == []


def test_cancel_of_a_preparation(daemon: Daemon) -> None:
    job = daemon.submit({"prepare": {"steps": 1000, "step_seconds": 0.05}})
    daemon.wait(job, "PREPARING")
    cancel(daemon, job)
    done = daemon.wait(job, "CANCELLED")
    assert len(done.attempts) == 0
    assert daemon.processes(job) == []


def test_pause_and_resume_lose_no_step(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 100, "step_seconds": 0.01})
    daemon.until_step(job, 5)
    daemon.jobs.PauseJob(job_service_pb2.PauseJobRequest(job=job))
    paused = daemon.wait(job, "PAUSED")
    assert daemon.processes(job) == []
    daemon.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(job=job))
    done = daemon.wait(job, "SUCCEEDED")
    assert done.attempts[1].resumed_from == paused.attempts[0].checkpoint == f"checkpoint-{paused.progress.step}"
    assert daemon.steps(job) == list(range(1, 101))


def test_a_cancelled_job_is_retried_from_its_checkpoint_and_a_deleted_one_is_gone(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 60, "step_seconds": 0.01})
    daemon.until_step(job, 3)
    cancel(daemon, job, save=True)
    daemon.wait(job, "CANCELLED")
    code, reason, _ = refusal(lambda: daemon.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(job=job)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    daemon.jobs.RetryJob(job_service_pb2.RetryJobRequest(job=job))
    done = daemon.wait(job, "SUCCEEDED")
    assert daemon.steps(job) == list(range(1, 61))
    daemon.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job=job))
    assert not Path(done.run_directory).exists()
    assert refusal(lambda: daemon.get(job))[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_a_held_job_is_queued_by_resume(daemon: Daemon) -> None:
    job = daemon.submit(hold=True)
    assert daemon.state_of(job) == "PAUSED"
    daemon.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(job=job))
    daemon.wait(job, "SUCCEEDED")


def test_watching_sees_each_state_and_ends(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 20, "step_seconds": 0.1})
    seen = list(daemon.jobs.WatchJob(job_service_pb2.WatchJobRequest(job=job)))
    states = [job_pb2.JobState.Name(message.job.state).removeprefix("JOB_STATE_") for message in seen]
    assert list(dict.fromkeys(states))[-2:] == ["RUNNING", "SUCCEEDED"]
    assert seen[0].job.HasField("resolved")
    assert not any(message.job.HasField("spec") or message.job.transitions for message in seen[1:])
    steps = [message.job.progress.step for message in seen]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 3


def test_a_request_repeated_makes_no_second_job(daemon: Daemon) -> None:
    spec = daemon.spec({"steps": 1})
    request = job_service_pb2.CreateJobRequest(spec=spec, request_id="again")
    first = daemon.jobs.CreateJob(request).job.id
    assert daemon.jobs.CreateJob(request).job.id == first
    spec.training.seed = 9
    changed = job_service_pb2.CreateJobRequest(spec=spec, request_id="again")
    code, reason, message = refusal(lambda: daemon.jobs.CreateJob(changed))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert "training.seed" in message


def test_submits_at_once_are_all_kept(daemon: Daemon) -> None:
    requests = [job_service_pb2.CreateJobRequest(spec=daemon.spec(hold=True, labels={"all": "x"})) for _ in range(40)]
    with ThreadPoolExecutor(16) as pool:
        ids = {response.job.id for response in pool.map(daemon.jobs.CreateJob, requests)}
    assert len(ids) == 40
    listed: set[str] = set()
    page = job_service_pb2.ListJobsRequest(page_size=7, labels={"all": "x"})
    while True:
        answer = daemon.jobs.ListJobs(page)
        listed |= {job.id for job in answer.jobs}
        if not answer.next_page_token:
            break
        page.page_token = answer.next_page_token
    assert listed == ids
    for job in ids:
        cancel(daemon, job)


def test_problems_of_a_spec_are_violations_all_at_once(daemon: Daemon) -> None:
    spec = daemon.spec()
    spec.priority = 500
    spec.training.batch.micro_batch = 0
    code, reason, message = refusal(
        lambda: daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)), violations=(fields := [])
    )
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SPEC")
    assert sorted(fields) == ["priority", "training.batch.micro_batch"]
    planned = daemon.jobs.PlanJob(job_service_pb2.PlanJobRequest(spec=spec))
    assert sorted(violation.field for violation in planned.violations) == sorted(fields)
    assert all(field in message for field in fields)


def test_a_plan_says_where_a_job_would_run_and_makes_none(daemon: Daemon) -> None:
    planned = daemon.jobs.PlanJob(job_service_pb2.PlanJobRequest(spec=daemon.spec(name="dry")))
    assert (list(planned.violations), list(planned.devices)) == ([], ["cpu"])
    assert planned.resolved.seed == 42
    assert planned.estimate.reserve_bytes == 64 * 2**20
    assert refusal(lambda: daemon.get("dry"))[1] == "JOB_NOT_FOUND"


def test_a_spec_over_the_limit_is_refused(daemon: Daemon) -> None:
    spec = daemon.spec(annotations={"a": "x" * 300_000})
    code, _, message = refusal(lambda: daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 262144" in message


def test_jobs_that_wait_say_for_what(tmp_path: Path) -> None:
    with Daemon(tmp_path, devices={"cpu_jobs": 1}) as daemon:
        first = daemon.submit({"steps": 10_000, "step_seconds": 0.01})
        daemon.wait(first, "RUNNING")
        low = daemon.submit(priority=-1)
        high = daemon.submit(priority=1)
        for job in (low, high):
            daemon.wait(job, "QUEUED")
        eventually(lambda: daemon.get(low).reason.message != "data is ready")
        queue = daemon.host.GetQueue(host_service_pb2.GetQueueRequest()).jobs
        assert [(entry.job, entry.position) for entry in queue] == [(high, 1), (low, 2)]
        assert list(queue[0].waits_for) == [first]
        host = daemon.host.GetHost(host_service_pb2.GetHostRequest())
        assert dict(host.jobs_by_state) == {"running": 1, "queued": 2}
        (device,) = host.devices
        assert [use.job for use in device.uses if use.job] == [first]
        cancel(daemon, first)
        daemon.wait(high, "SUCCEEDED")
        daemon.wait(low, "SUCCEEDED")
        assert daemon.get(high).attempts[0].start_time.ToNanoseconds() < (
            daemon.get(low).attempts[0].start_time.ToNanoseconds()
        )


def test_waiting_is_not_busy(tmp_path: Path) -> None:
    with Daemon(tmp_path, devices={"cpu_jobs": 1}) as daemon:
        daemon.wait(daemon.submit({"steps": 10_000, "step_seconds": 0.05}), "RUNNING")
        waiting = daemon.submit()
        daemon.wait(waiting, "QUEUED")
        eventually(lambda: daemon.get(waiting).reason.message != "data is ready")
        before, stat = daemon.get(waiting).revision, Path(f"/proc/{daemon.process.pid}/stat")  # type: ignore[union-attr]
        cpu = sum(map(int, stat.read_text().split()[13:15]))
        time.sleep(2)
        assert daemon.get(waiting).revision <= before + 1
        assert sum(map(int, stat.read_text().split()[13:15])) - cpu < 60  # hundredths of a second
