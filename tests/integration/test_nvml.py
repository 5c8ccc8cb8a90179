"""A daemon on the GPUs of a driver: the real adapter in a real process, over a library of ours with NVML's symbols."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.native.nvml import GIB, Fault, Gpu, Process, World
from tests.support.daemon import Daemon, eventually

from finetuned.v1 import host_service_pb2, job_pb2, job_service_pb2

UNKNOWN = 999
LONG = {"steps": 10_000, "step_seconds": 0.02}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world", Gpu("GPU-a", total_bytes=80 * GIB), Gpu("GPU-b", bus=2, total_bytes=80 * GIB))


@pytest.fixture
def daemon(tmp_path: Path, world: World) -> Iterator[Daemon]:
    with ExitStack() as stack:
        daemon = Daemon(tmp_path / "root", devices={"inventory": "nvml"})
        stack.push(daemon.__exit__)
        yield daemon.start(environment=world.environment)


def submit(daemon: Daemon, script: dict[str, object], gib: int) -> str:
    spec = daemon.spec(script)
    spec.training.resources.memory_bytes = gib * GIB
    return daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)).job.id


def devices(daemon: Daemon) -> dict[str, host_service_pb2.Device]:
    return {device.id: device for device in daemon.host.GetHost(host_service_pb2.GetHostRequest()).devices}


def test_jobs_take_the_gpus_the_driver_tells_of(daemon: Daemon, world: World) -> None:
    world.change("GPU-a", processes=(Process(4711, 70 * GIB),))
    job = submit(daemon, LONG, gib=60)
    daemon.wait(job, "RUNNING")
    assert list(daemon.get(job).attempts[0].devices) == ["GPU-b"]
    found = devices(daemon)
    assert found["GPU-a"].total_bytes == 80 * GIB - GIB // 2
    assert [(use.pid, use.used_bytes) for use in found["GPU-a"].uses] == [(4711, 70 * GIB)]
    assert [use.job for use in found["GPU-b"].uses] == [job]


def test_memory_that_a_stranger_gives_back_is_taken(daemon: Daemon, world: World) -> None:
    for gpu in ("GPU-a", "GPU-b"):
        world.change(gpu, processes=(Process(4711, 70 * GIB),))
    job = submit(daemon, {"steps": 2}, gib=60)
    daemon.wait(job, "QUEUED")
    eventually(lambda: daemon.get(job).reason.code == job_pb2.REASON_CODE_FOREIGN_PROCESS)
    assert "pid 4711" in daemon.get(job).reason.message
    world.change("GPU-b", processes=())
    assert list(daemon.wait(job, "SUCCEEDED").attempts[0].devices) == ["GPU-b"]


def test_a_gpu_that_is_lost_takes_nobody_else_with_it(daemon: Daemon, world: World) -> None:
    first = submit(daemon, LONG, gib=60)
    daemon.until_step(first, 1)
    (lost,) = daemon.get(first).attempts[0].devices
    (other,) = {"GPU-a", "GPU-b"} - {lost}
    world.change(lost, lost=True)
    second = submit(daemon, {"steps": 2}, gib=10)
    assert list(daemon.wait(second, "SUCCEEDED").attempts[0].devices) == [other]
    # What becomes of it is decided by its own processes: they meet the loss themselves.
    assert daemon.get(first).state == job_pb2.JOB_STATE_RUNNING
    assert lost in devices(daemon)


def test_a_call_that_always_fails_keeps_gpus_out_until_it_works_again(daemon: Daemon, world: World) -> None:
    world.fail(Fault("nvmlDeviceGetMemoryInfo_v2", UNKNOWN))
    job = submit(daemon, {"steps": 2}, gib=10)
    daemon.wait(job, "QUEUED")
    eventually(lambda: daemon.get(job).reason.code == job_pb2.REASON_CODE_DEVICE_UNFIT)
    assert "the driver does not answer for it: Unknown Error" in daemon.get(job).reason.message
    world.fail()
    daemon.wait(job, "SUCCEEDED")
