"""What jobs leave behind, from a real daemon: fetched by file, by range and as a tar; checkpoints removed by hand."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.daemon import Daemon, refusal

from finetuned.v1 import artifact_service_pb2, job_service_pb2

FAILED = grpc.StatusCode.FAILED_PRECONDITION
TRAINING = {"steps": 6, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("artifacts")) as running:
        yield running


@pytest.fixture(scope="module")
def job(daemon: Daemon) -> str:
    """One that has succeeded, with checkpoints at 2, 4 and 6."""
    return daemon.wait(daemon.submit(TRAINING), "SUCCEEDED").id


def listed(daemon: Daemon, job: str) -> dict[str, artifact_service_pb2.Artifact]:
    answer = daemon.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(job=job))
    return {each.name: each for each in answer.artifacts}


def fetch(daemon: Daemon, job: str, **fields: Any) -> tuple[artifact_service_pb2.DownloadArtifactResponse, bytes]:
    """The first message and all the data."""
    request = artifact_service_pb2.DownloadArtifactRequest(job=job, **fields)
    messages = list(daemon.artifacts.DownloadArtifact(request))
    return messages[0], b"".join(message.data for message in messages)


def remove(daemon: Daemon, job: str, artifact: str) -> None:
    daemon.artifacts.DeleteArtifact(artifact_service_pb2.DeleteArtifactRequest(job=job, artifact=artifact))


def test_every_file_is_fetched_with_its_hash(daemon: Daemon, job: str) -> None:
    for artifact in listed(daemon, job).values():
        for name in (*(file.path for file in artifact.files), "manifest.json"):
            first, data = fetch(daemon, job, artifact=artifact.name, file=name)
            assert data == (Path(artifact.path) / name).read_bytes()
            assert (first.bytes, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_folder_is_fetched_as_a_tar_from_any_byte(daemon: Daemon, job: str) -> None:
    first, whole = fetch(daemon, job, artifact="checkpoint-4")
    assert first.bytes == len(whole)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        folder = Path(listed(daemon, job)["checkpoint-4"].path)
        found = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        assert {name: file.read() for name, file in found.items() if file} == {
            f"checkpoint-4/{path.name}": path.read_bytes() for path in folder.iterdir()
        }
    for offset in (1, 511, 512, 600, len(whole) - 1, len(whole)):
        assert fetch(daemon, job, artifact="checkpoint-4", offset=offset)[1] == whole[offset:]
    assert fetch(daemon, job, artifact="checkpoint-4", offset=500, length=700)[1] == whole[500:1200]
    assert fetch(daemon, job, artifact="checkpoint-4", length=0)[1] == b""


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"artifact": "checkpoint-3"}, (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")),
        ({"artifact": "../.."}, (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")),
        ({"file": "../spec.json"}, (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")),
        ({"file": "manifest.json", "offset": 10**6}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
    ],
    ids=["no artifact", "a path", "a path out", "beyond"],
)
def test_nothing_else_is_fetched(
    daemon: Daemon, job: str, fields: dict[str, Any], refused: tuple[grpc.StatusCode, str]
) -> None:
    assert refusal(lambda: fetch(daemon, job, **fields))[:2] == refused


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(daemon: Daemon) -> None:
    job = daemon.wait(daemon.submit(TRAINING), "SUCCEEDED").id
    file = Path(listed(daemon, job)["output"].path) / "adapter_config.json"
    secret = daemon.root / "secret"
    secret.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(secret)
    code, reason, _ = refusal(lambda: fetch(daemon, job, file="adapter_config.json"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")


def test_a_checkpoint_that_nobody_needs_is_removed(daemon: Daemon) -> None:
    job = daemon.wait(daemon.submit(TRAINING), "SUCCEEDED").id
    folder = Path(listed(daemon, job)["checkpoint-4"].path)
    remove(daemon, job, "checkpoint-4")
    assert not folder.exists()
    assert list(listed(daemon, job)) == ["output", "checkpoint-6", "checkpoint-2"]
    assert refusal(lambda: remove(daemon, job, "checkpoint-4"))[:2] == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")
    code, reason, message = refusal(lambda: remove(daemon, job, "output"))
    assert (code, reason) == (FAILED, "ARTIFACT_NEEDED")
    assert "delete the job" in message


def test_what_a_retry_goes_on_from_stays(daemon: Daemon) -> None:
    job = daemon.wait(daemon.submit({**TRAINING, "fail_at": 5}, max_retries=0), "FAILED").id
    assert refusal(lambda: remove(daemon, job, "checkpoint-4"))[:2] == (FAILED, "ARTIFACT_NEEDED")
    remove(daemon, job, "checkpoint-2")
    daemon.jobs.RetryJob(job_service_pb2.RetryJobRequest(job=job))


def test_a_job_that_has_not_ended_keeps_its_own(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 10_000, "step_seconds": 0.02, "checkpoint_every": 1})
    daemon.until_step(job, 4)
    name = next(name for name in listed(daemon, job) if name.startswith("checkpoint"))
    assert refusal(lambda: remove(daemon, job, name))[:2] == (FAILED, "ARTIFACT_NEEDED")
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))
    daemon.wait(job, "CANCELLED")


def test_what_a_job_to_come_takes_stays(daemon: Daemon, job: str) -> None:
    resume = {"from_job": job, "checkpoint": "checkpoint-4"}
    taker = daemon.submit({}, training={"resume": resume}, hold=True)
    code, reason, message = refusal(lambda: remove(daemon, job, "checkpoint-4"))
    assert (code, reason) == (FAILED, "ARTIFACT_NEEDED")
    assert taker in message
