"""Jobs on declared GPUs: who gets which, who waits for what, and what the processes are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.daemon import Daemon, eventually, refusal
from tests.support.gpus import GIB, declare, gpu

from finetuned.v1 import host_service_pb2, job_pb2, job_service_pb2

LONG = {"steps": 10_000, "step_seconds": 0.02}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    return declare(tmp_path / "gpus.toml", gpu(0), gpu(1))


@pytest.fixture
def daemon(tmp_path: Path, inventory: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "root", devices={"inventory": "file", "file": str(inventory)}) as daemon:
        yield daemon


def submit(daemon: Daemon, script: dict[str, Any], gib: float, gpus: int = 1, pinned: Sequence[str] = ()) -> str:
    spec = daemon.spec(script)
    spec.training.resources.memory_bytes = int(gib * GIB)
    spec.training.resources.gpus = gpus
    spec.training.resources.gpu_uuids.extend(pinned)
    return daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)).job.id


def reason_of(daemon: Daemon, job: str) -> tuple[str, str]:
    """The reason it waits, as soon as the scheduler has said one."""
    daemon.wait(job, "QUEUED")
    eventually(lambda: daemon.get(job).reason.code != job_pb2.REASON_CODE_PREPARED)
    reason = daemon.get(job).reason
    return job_pb2.ReasonCode.Name(reason.code).removeprefix("REASON_CODE_"), reason.message


def environment(daemon: Daemon, pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def test_a_gang_gets_its_gpus_by_uuid_all_at_once(daemon: Daemon) -> None:
    single = submit(daemon, LONG, gib=60)
    daemon.until_step(single, 1)
    gang = submit(daemon, LONG, gib=60, gpus=2)
    code, _ = reason_of(daemon, gang)
    assert code in ("NOT_ENOUGH_FREE_DEVICES", "NOT_ENOUGH_FREE_MEMORY")
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=single))
    daemon.until_step(gang, 1)
    assert sorted(daemon.get(gang).attempts[0].devices) == ["GPU-0", "GPU-1"]
    environments = [environment(daemon, pid) for pid in daemon.processes(gang)]
    ranks = {e["RANK"]: e["CUDA_VISIBLE_DEVICES"] for e in environments if "RANK" in e}
    assert sorted(ranks) == ["0", "1"]
    assert sorted(ranks.values()) == ["GPU-0", "GPU-1"]


def test_jobs_share_a_gpu_while_their_reservations_fit(daemon: Daemon) -> None:
    first = submit(daemon, LONG, gib=40, pinned=["GPU-1"])
    second = submit(daemon, LONG, gib=30, pinned=["GPU-1"])
    for job in (first, second):
        daemon.wait(job, "RUNNING")
    third = submit(daemon, LONG, gib=20, pinned=["GPU-1"])
    assert reason_of(daemon, third)[0] in ("PINNED_DEVICES_BUSY", "NOT_ENOUGH_FREE_MEMORY")
    host = daemon.host.GetHost(host_service_pb2.GetHostRequest())
    assert [device.reserved_bytes for device in host.devices] == [0, 70 * GIB]
    assert {use.job for use in host.devices[1].uses} == {first, second}


def test_memory_of_a_foreign_process_counts_until_it_is_gone(daemon: Daemon, inventory: Path) -> None:
    stranger = {"pid": 4711, "name": "notebook", "used_bytes": 70 * GIB}
    declare(inventory, gpu(0, stranger), gpu(1, stranger))
    job = submit(daemon, {"steps": 2}, gib=40)
    code, message = reason_of(daemon, job)
    assert code == "FOREIGN_PROCESS"
    assert "notebook" in message
    declare(inventory, gpu(0, stranger), gpu(1))
    assert list(daemon.wait(job, "SUCCEEDED").attempts[0].devices) == ["GPU-1"]


def test_what_no_device_can_hold_is_refused_at_once(daemon: Daemon) -> None:
    code, reason, message = refusal(lambda: submit(daemon, {}, gib=100))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SPEC")
    assert "training.resources.memory_bytes: is 100.0 GiB" in message
    assert "training.resources.gpus" in refusal(lambda: submit(daemon, {}, gib=1, gpus=3))[2]


def test_a_driver_that_does_not_answer_starts_nothing_and_stops_nothing(daemon: Daemon, inventory: Path) -> None:
    running = submit(daemon, {"steps": 60, "step_seconds": 0.02}, gib=10)
    daemon.wait(running, "RUNNING")
    inventory.write_text("not an inventory")
    unreadable = (grpc.StatusCode.UNAVAILABLE, "DEVICES_UNREADABLE")
    assert refusal(lambda: daemon.host.GetHost(host_service_pb2.GetHostRequest()))[:2] == unreadable
    assert refusal(daemon.submit)[:2] == unreadable
    daemon.wait(running, "SUCCEEDED")


def test_exclusive_gpus_take_one_job_each(tmp_path: Path, inventory: Path) -> None:
    devices = {"inventory": "file", "file": str(inventory), "gpu_policy": "exclusive"}
    with Daemon(tmp_path / "root", devices=devices) as daemon:
        jobs = [submit(daemon, LONG, gib=1) for _ in range(2)]
        for job in jobs:
            daemon.wait(job, "RUNNING")
        assert {daemon.get(job).attempts[0].devices[0] for job in jobs} == {"GPU-0", "GPU-1"}
        assert reason_of(daemon, submit(daemon, LONG, gib=1))[0] == "NOT_ENOUGH_FREE_DEVICES"
