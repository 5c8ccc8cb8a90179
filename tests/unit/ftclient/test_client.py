from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import START, job, log_lines

from finetuned.v1 import artifact_service_pb2, host_service_pb2, host_service_pb2_grpc, job_pb2, job_service_pb2
from ftclient import (
    AlreadyExists,
    ApiError,
    Client,
    DeadlineExceeded,
    FtError,
    InvalidSpec,
    JobCancelled,
    JobFailed,
    JobState,
    NotFound,
    Unavailable,
    WaitTimeout,
    WrongState,
)

SPEC = {"model": {"path": "/models/smol"}, "data": {"train": [{"path": "/data/a.jsonl"}]}}


def test_submit_makes_a_key_of_its_own(daemon: FakeDaemon, client: Client) -> None:
    first, second = client.submit(SPEC), client.submit(SPEC)
    assert first.id != second.id
    keys = [request.request_id for request in daemon.requests]
    assert all(keys)
    assert len(set(keys)) == 2


def test_a_submit_whose_answer_is_lost_makes_one_job(daemon: FakeDaemon, client: Client) -> None:
    daemon.lost_answers = 2
    made = client.submit(SPEC)
    assert list(daemon.jobs) == [made.id]
    assert len({request.request_id for request in daemon.requests}) == 1
    assert len(daemon.requests) == 3


def test_the_same_key_again(client: Client) -> None:
    made = client.submit(SPEC, request_id="run-17")
    assert client.submit(SPEC, request_id="run-17").id == made.id
    with pytest.raises(AlreadyExists, match=r"they differ in training.seed") as caught:
        client.submit({**SPEC, "seed": 7}, request_id="run-17")
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert caught.value.request_id == "run-17"


def test_submit_does_not_change_the_spec_it_is_given(client: Client) -> None:
    spec = job_pb2.JobSpec(name="mine")
    client.submit(spec, hold=True)
    assert not spec.HasField("hold")


def test_an_invalid_spec_has_every_violation(daemon: FakeDaemon, client: Client) -> None:
    daemon.violations = [
        job_service_pb2.Violation(field="training.batch.global_batch", description="must divide"),
        job_service_pb2.Violation(field="training.model.path", description="does not exist"),
    ]
    with pytest.raises(InvalidSpec) as caught:
        client.submit(SPEC)
    assert [violation.field for violation in caught.value.violations] == [
        "training.batch.global_batch",
        "training.model.path",
    ]
    assert [violation.description for violation in client.plan(SPEC).violations] == ["must divide", "does not exist"]


def test_reads_are_tried_again(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    daemon.unavailable = 3
    assert client.get("k7m2").state is JobState.RUNNING


def test_a_change_is_not_tried_again(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    client.host()
    daemon.unavailable = 1
    with pytest.raises(Unavailable) as caught:
        client.cancel("k7m2")
    assert caught.value.tried == {daemon.address: "not now"}
    assert daemon.jobs["k7m2p9x4qd"].state == job_pb2.JOB_STATE_RUNNING


def test_trying_again_ends(daemon: FakeDaemon, client: Client) -> None:
    daemon.unavailable = 1000
    with pytest.raises(Unavailable):
        client.get("k7m2", timeout=0.5)


def test_a_list_reads_all_its_pages_as_they_are_needed(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs = {f"job{n}": job_pb2.Job(id=f"job{n}", state=job_pb2.JOB_STATE_QUEUED) for n in range(7)}
    listed = client.list(page_size=3, states=[JobState.QUEUED], labels={"team": "cx"}, project="p")
    assert next(listed).id == "job0"
    assert len(daemon.requests) == 1
    assert [found.id for found in listed] == [f"job{n}" for n in range(1, 7)]
    assert [request.page_token for request in daemon.requests] == ["", "3", "6"]
    assert dict(daemon.requests[0].labels) == {"team": "cx"}
    assert list(daemon.requests[0].states) == [job_pb2.JOB_STATE_QUEUED]


def test_update_says_what_it_changes(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    client.update("k7m2", priority=0)
    client.update("k7m2", labels={})
    client.update("k7m2", priority=5, labels={"a": "b"})
    assert client.update("k7m2", front=True).front
    assert not client.update("k7m2", front=False).front
    assert [list(request.update_mask.paths) for request in daemon.requests] == [
        ["priority"],
        ["labels"],
        ["priority", "labels"],
        ["front"],
        ["front"],
    ]


def test_unknown_and_finished_jobs(daemon: FakeDaemon, client: Client) -> None:
    with pytest.raises(NotFound, match="no job has the id, id prefix or name 'nobody'"):
        client.get("nobody")
    daemon.jobs["k7m2p9x4qd"] = job("SUCCEEDED")
    with pytest.raises(WrongState, match="has already ended") as caught:
        client.cancel("k7m2")
    assert caught.value.reason == "JOB_FINISHED"


def test_wait_for_success(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("SUCCEEDED", output_path="/out")
    daemon.watched["k7m2p9x4qd"] = [job("RUNNING", step=1), job("SUCCEEDED")]
    assert client.wait("k7m2", timeout="1m").output_path == "/out"


def test_wait_until(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("SUCCEEDED")
    daemon.watched["k7m2p9x4qd"] = [job("RUNNING", step=step) for step in range(1, 9)]
    found = client.wait("k7m2", until=lambda seen: seen.progress is not None and seen.progress.step >= 3)
    assert found.progress is not None
    assert found.progress.step == 3


def test_wait_for_a_failure(daemon: FakeDaemon, client: Client) -> None:
    failed = job("FAILED")
    failed.failure.message, failed.failure.advice, failed.failure.failure_class = "out of memory", "use less", 1
    daemon.jobs["k7m2p9x4qd"] = failed
    daemon.log_lines["k7m2p9x4qd"] = log_lines(30)
    with pytest.raises(JobFailed, match=r"job k7m2p9x4qd \(support-v3\) failed: out of memory") as caught:
        client.wait("k7m2")
    assert (caught.value.why, caught.value.advice) == ("out_of_gpu_memory", "use less")
    assert caught.value.log_tail == tuple(f"line {number}" for number in range(11, 31))


def test_wait_for_a_cancelled_job(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("CANCELLED")
    with pytest.raises(JobCancelled):
        client.wait("k7m2")


def test_wait_does_not_wait_for_ever(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("RUNNING")
    with pytest.raises(WaitTimeout, match=r"not there yet after 0.3 s"):
        client.wait("k7m2", timeout=0.3)
    with pytest.raises(DeadlineExceeded):
        list(client.watch("k7m2", timeout=0.3))


def test_an_explanation(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("QUEUED")
    said = daemon.explanation
    said.position, said.waits_for[:], said.order[:] = 2, ["other"], ["priority 10"]
    said.forecast.expected.seconds = START
    said.devices.add(device="GPU-1", label="GPU 0", message="22.4 GiB free of the 31.2 GiB it needs")
    found = client.explain("k7m2")
    assert (found.job.id, found.position, found.waits_for) == ("k7m2p9x4qd", 2, ("other",))
    assert found.forecast is not None
    assert found.forecast.expected == datetime.fromtimestamp(START, UTC)
    assert found.duration is None
    assert [(each.label, each.fits) for each in found.devices] == [("GPU 0", False)]


def test_a_hold_never_stops_a_training(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("RUNNING")
    with pytest.raises(WrongState, match="it is running"):
        client.hold("k7m2")
    daemon.jobs["k7m2p9x4qd"] = job("QUEUED")
    assert client.hold("k7m2").state is JobState.PAUSED
    assert client.release("k7m2").state is JobState.QUEUED


def test_a_quarantine(daemon: FakeDaemon, client: Client) -> None:
    daemon.host.devices.add(id="GPU-1", index=0, kind=1)
    client.quarantine_device("GPU 0", reason="it smells")
    assert [(device.unfit, device.quarantined) for device in client.host().devices] == [("it smells", True)]
    client.release_device("GPU-1")
    assert not client.host().devices[0].quarantined
    with pytest.raises(NotFound, match="no device 'GPU 7'") as caught:
        client.release_device("GPU 7")
    assert caught.value.advice == "`ftctl gpus` lists the devices there are"


def test_projects(daemon: FakeDaemon, client: Client) -> None:
    daemon.projects.append(host_service_pb2.ProjectUse(project="nlp", weight=2, quota={"running": 4}))
    (found,) = client.projects()
    assert found.quota is not None
    assert (found.project, found.weight, found.quota.running, found.quota.devices) == ("nlp", 2, 4, None)


def test_the_rest_of_the_surface(daemon: FakeDaemon, client: Client) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    daemon.host.hostname = "gpu1"
    daemon.host.jobs_by_state["running"] = 2
    daemon.queued.append(host_service_pb2.QueuedJob(job="k7m2p9x4qd", waits_for=["other"]))
    daemon.data.report.train.rows = 5
    daemon.artifacts.append(artifact_service_pb2.Artifact(name="output", path="/out"))
    assert client.host().jobs_by_state == {"running": 2}
    assert client.queue()[0].waits_for == ("other",)
    report = client.data_report("k7m2")
    assert report.train is not None
    assert report.train.rows == 5
    assert report.eval is None
    assert [(found.name, found.path) for found in client.artifacts("k7m2")] == [("output", "/out")]
    for change in (client.pause, client.resume, client.retry):
        assert change("k7m2").id == "k7m2p9x4qd"
    client.delete("k7m2")
    assert not daemon.jobs


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/ftd.sock") as client, pytest.raises(Unavailable) as caught:
        client.host()
    assert str(caught.value) == "the daemon cannot be reached"
    assert caught.value.why == f"tried unix:{tmp_path}/ftd.sock (no such socket)"
    assert "start it with `ftd`" in caught.value.advice


def test_a_socket_nobody_listens_on(daemon: FakeDaemon) -> None:
    path = daemon.socket.with_name("stale")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Client(str(path)) as client, pytest.raises(Unavailable, match="cannot be reached") as caught:
        client.host()
    assert caught.value.tried == {f"unix:{path}": "nobody listens on this socket"}


def test_the_first_default_socket_that_answers(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = daemon.socket.parent / "finetuned"
    folder.mkdir()
    daemon.stop()
    with FakeDaemon(folder / "ftd.sock") as found:
        for name in ("FTD_ADDRESS", "FTD_CONTEXT", "FTD_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(daemon.socket.parent))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(daemon.socket.parent / "none"))
        monkeypatch.setenv("XDG_STATE_HOME", str(daemon.socket.parent))
        with Client() as client:
            client.host()
        assert len(found.requests) == 1


def test_a_closed_client(client: Client) -> None:
    client.close()
    with pytest.raises(FtError, match="this client is closed"):
        client.host()


class Broken(FakeDaemon):
    """It fails inside, cannot read its devices, and is too old to know of projects."""

    def GetHost(self, request: object, context: Any) -> Any:  # noqa: N802
        self._refuse(context, "INTERNAL", "INTERNAL", "internal error, id 17; the daemon's log has the details")

    def GetQueue(self, request: object, context: Any) -> Any:  # noqa: N802
        self._refuse(context, "UNAVAILABLE", "DEVICES_UNREADABLE", "the driver does not answer")

    def ListProjects(self, request: Any, context: Any) -> Any:  # noqa: N802
        return host_service_pb2_grpc.HostServiceServicer.ListProjects(self, request, context)


def test_errors_that_are_not_the_callers(daemon: FakeDaemon) -> None:
    daemon.stop()
    with Broken(daemon.socket) as broken, Client(broken.address) as client:
        with pytest.raises(ApiError, match="internal error, id 17") as caught:
            client.host()
        assert (caught.value.why, caught.value.advice) == (
            "INTERNAL",
            "report it, with what the log says, to whoever runs the daemon",
        )
        with pytest.raises(ApiError, match="the driver does not answer") as caught:
            client.queue(timeout=0.1)
        assert not isinstance(caught.value, Unavailable)
        assert "nvidia-smi" in caught.value.advice
        with pytest.raises(ApiError, match="does not know ListProjects: it is older than this client, 0") as caught:
            client.projects()
        assert caught.value.code == "UNIMPLEMENTED"
