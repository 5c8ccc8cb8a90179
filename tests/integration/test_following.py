"""Following jobs of a real daemon: from a cursor across restarts, by long waits, by labels, in the caller's trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tests.support.cutter import Cutter
from tests.support.daemon import Daemon, refusal

from finetuned.v1 import job_changes_pb2, job_pb2, job_service_pb2, job_service_pb2_grpc
from ftclient import Client

LONG = {"steps": 10_000, "step_seconds": 0.02}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WHOLE_LIFE = ["PREPARING", "QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


def past(daemon: Daemon, **fields: object) -> list[job_changes_pb2.JobChange]:
    """The changes that there are."""
    request = job_changes_pb2.WatchJobsRequest(no_follow=True, **fields)
    return [change for message in daemon.jobs.WatchJobs(request) for change in message.changes]


def now(daemon: Daemon) -> str:
    """The cursor of now."""
    request = job_changes_pb2.WatchJobsRequest(only_new=True, no_follow=True)
    return [message.cursor for message in daemon.jobs.WatchJobs(request)][-1]


def new(daemon: Daemon, cursor: str) -> set[str]:
    """The jobs that were made after the cursor."""
    return {change.job for change in past(daemon, cursor=cursor) if not change.transition.from_state}


def states(changes: list[job_changes_pb2.JobChange]) -> list[str]:
    return [job_pb2.JobState.Name(change.transition.to_state).removeprefix("JOB_STATE_") for change in changes]


def wait(daemon: Daemon, job: str, **fields: object) -> job_changes_pb2.WaitJobResponse:
    return daemon.jobs.WaitJob(job_changes_pb2.WaitJobRequest(job=job, **fields), timeout=60)


def test_who_was_away_is_told_all_that_happened_meanwhile(daemon: Daemon) -> None:
    before = now(daemon)
    job = daemon.submit({"steps": 2}, name="meanwhile")
    daemon.wait(job, "SUCCEEDED")
    changes = past(daemon, cursor=before)
    assert states(changes) == WHOLE_LIFE
    assert {change.job for change in changes} == {job}
    # From any of them, what comes after it.
    for index, change in enumerate(changes):
        assert past(daemon, cursor=change.cursor) == changes[index + 1 :]


def test_a_stream_goes_on_live_and_begins_with_where_it_is(daemon: Daemon) -> None:
    call = daemon.jobs.WatchJobs(job_changes_pb2.WatchJobsRequest(only_new=True), timeout=60)
    first = next(call)
    assert (list(first.changes), first.up_to_date) == ([], True)
    job = daemon.submit({"steps": 2})
    told: list[job_changes_pb2.JobChange] = []
    while not told or told[-1].transition.to_state != job_pb2.JOB_STATE_SUCCEEDED:
        told += next(call).changes
    call.cancel()
    assert states(told) == WHOLE_LIFE
    assert told == past(daemon, cursor=first.cursor)
    assert told[-1].revision == daemon.get(job).revision


def test_nothing_is_lost_or_told_twice_when_the_daemon_is_killed(tmp_path: Path) -> None:
    told: list[job_changes_pb2.JobChange] = []
    with Daemon(tmp_path) as daemon:
        jobs = [daemon.submit({"steps": 3, "step_seconds": 0.2}, name=f"job-{index}") for index in range(3)]
        for _ in range(2):
            told += past(daemon, cursor=told[-1].cursor if told else "")
            daemon.kill()
            daemon.start()
        for job in jobs:
            daemon.wait(job, "SUCCEEDED")
        told += past(daemon, cursor=told[-1].cursor)
        assert told == past(daemon)
        for job in jobs:
            stored = [transition.to_state for transition in daemon.get(job).transitions]
            assert [change.transition.to_state for change in told if change.job == job] == stored


def test_only_what_was_asked_for_is_told(daemon: Daemon) -> None:
    before = now(daemon)
    ours = daemon.submit({"steps": 1}, labels={"team": "cx"}, project="nlp")
    other = daemon.submit({"steps": 1}, labels={"team": "ml"})
    for job in (ours, other):
        daemon.wait(job, "SUCCEEDED")
    assert {change.job for change in past(daemon, cursor=before, selector="team in (cx)")} == {ours}
    assert {change.job for change in past(daemon, cursor=before, project="nlp")} == {ours}
    ended = past(daemon, cursor=before, states=[job_pb2.JOB_STATE_SUCCEEDED], selector="team")
    assert states(ended) == ["SUCCEEDED"] * 2
    daemon.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(job=other))
    (gone,) = past(daemon, cursor=ended[-1].cursor)
    assert (gone.job, gone.HasField("transition"), gone.HasField("delete_time")) == (other, False, True)


def test_requests_that_cannot_be_meant_are_refused(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 1})
    for fields, words in (
        ({"cursor": "other-7"}, "cursor 'other-7' is none of this daemon's"),
        ({"cursor": now(daemon), "only_new": True}, "exclude each other"),
        ({"selector": "a=b=c"}, "selector means nothing from 'a=b=c' on"),
        ({"states": [77]}, "states has 77"),
    ):
        code, reason, message = refusal(lambda fields=fields: past(daemon, **fields))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert words in message
    for fields, words in (({"timeout_seconds": 601}, "0 to 600"), ({"states": [0]}, "states has 0")):
        assert words in refusal(lambda fields=fields: wait(daemon, job, **fields))[2]


def test_a_wait_answers_when_it_is_there(daemon: Daemon) -> None:
    job = daemon.submit(LONG)
    running = wait(daemon, job, states=[job_pb2.JOB_STATE_RUNNING])
    assert (running.reached, running.job.state) == (True, job_pb2.JOB_STATE_RUNNING)
    stepped = wait(daemon, job, step=running.job.progress.step + 5)
    assert stepped.reached
    assert stepped.job.progress.step >= running.job.progress.step + 5
    with ThreadPoolExecutor() as pool:
        changed = pool.submit(wait, daemon, job, after_revision=stepped.job.revision)
        ended = pool.submit(wait, daemon, job)
        daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))
        assert changed.result().job.revision > stepped.job.revision
        assert (ended.result().reached, ended.result().job.state) == (True, job_pb2.JOB_STATE_CANCELLED)


def test_a_wait_ends_with_its_time_and_with_its_job(daemon: Daemon) -> None:
    job = daemon.submit({**LONG, "steps": 50})
    begun = time.monotonic()
    early = wait(daemon, job, timeout_seconds=0)
    assert (early.reached, early.job.id) == (False, job)
    assert time.monotonic() - begun < 10
    # It can never come this far: the answer is how it ended.
    ended = wait(daemon, job, step=1_000)
    assert (ended.reached, ended.job.state) == (False, job_pb2.JOB_STATE_SUCCEEDED)


def test_jobs_are_found_by_selector_after_an_edit_of_one_label(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 1}, name="labelled", labels={"stage": "test", "keep": "1"}, annotations={"a": "b"})
    daemon.wait(job, "SUCCEEDED")
    request = job_service_pb2.UpdateJobRequest(job=job, labels={"stage": "live"}, annotations={"note": "n"})
    request.update_mask.paths.extend(["labels.stage", "annotations.note"])
    changed = daemon.jobs.UpdateJob(request).job
    assert changed.labels == {"stage": "live", "keep": "1"}
    assert changed.annotations == {"a": "b", "note": "n"}
    assert changed.spec.labels == {"stage": "test", "keep": "1"}
    for selector, found in (
        ("stage=live,keep", [job]),
        ("keep,stage!=live", []),
        ("keep notin (2),stage in (live)", [job]),
    ):
        listed = daemon.jobs.ListJobs(job_service_pb2.ListJobsRequest(selector=selector)).jobs
        assert [each.id for each in listed] == found


def test_a_job_runs_in_the_trace_of_its_caller(daemon: Daemon) -> None:
    spec = daemon.spec(LONG)
    created = daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec), metadata=(("traceparent", TRACE),)).job
    assert daemon.get(created.id).traceparent == TRACE
    daemon.until_step(created.id, 1)
    for pid in daemon.processes(created.id):
        assert f"TRACEPARENT={TRACE}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=created.id))
    # What is no trace is no reason to refuse a job.
    request = job_service_pb2.CreateJobRequest(spec=daemon.spec())
    odd = daemon.jobs.CreateJob(request, metadata=(("traceparent", TRACE.replace("4", "g")),)).job
    assert odd.traceparent == ""


@pytest.mark.parametrize(("given", "kept"), [(TRACE, TRACE), ("", ""), ("é\n", "")])
def test_a_client_passes_on_the_trace_it_runs_in(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.setenv("TRACEPARENT", given)
    with Client(f"unix:{daemon.socket}") as client:
        assert client.submit(daemon.spec()).traceparent == kept


@pytest.mark.parametrize("cut", [0, 1, 40, 200, 1000])
def test_a_submit_whose_answer_is_lost_makes_one_job(daemon: Daemon, cut: int) -> None:
    before, spec = now(daemon), daemon.spec()
    # The first connection only looks whether anybody listens.
    with Cutter(daemon.socket, [cut, cut, cut]) as cutter, Client(cutter.address) as client:
        job = client.submit(spec)
        assert cutter.cut >= 1
    assert new(daemon, before) == {job.id}


def test_the_job_of_a_lost_answer_is_that_of_the_next_try(daemon: Daemon) -> None:
    before, request = now(daemon), job_service_pb2.CreateJobRequest(spec=daemon.spec(), request_id="lost")
    with (
        Cutter(daemon.socket, [1000]) as cutter,
        grpc.insecure_channel(cutter.address) as channel,
        pytest.raises(grpc.RpcError),
    ):
        job_service_pb2_grpc.JobServiceStub(channel).CreateJob(request)
    made = new(daemon, before)
    assert {daemon.jobs.CreateJob(request).job.id} == made
