"""Starting and stopping a real daemon: what it refuses, what it leaves alone, what it says to systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.v1 import event_pb2, host_service_pb2, job_service_pb2

FTD = str(Path(sys.executable).with_name("ftd"))


def starts(daemon: Daemon) -> tuple[int, str]:
    """Starts a daemon that is expected to refuse; its exit code and last line."""
    daemon.start(ready=False)
    assert daemon.process is not None
    code = daemon.process.wait(timeout=30)
    daemon.process = None
    return code, daemon.log.read_text().splitlines()[-1]


def ftd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FTD, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_two_daemons_on_one_state_directory(tmp_path: Path) -> None:
    with Daemon(tmp_path / "one") as one:
        two = Daemon(tmp_path / "two", state=one.state)
        code, line = starts(two)
        assert code == 1
        assert one.process is not None
        assert f"another daemon has this state directory, process {one.process.pid}; stop it" in line
        assert one.wait(one.submit(), "SUCCEEDED")


def test_two_daemons_on_one_socket(tmp_path: Path) -> None:
    with Daemon(tmp_path / "one") as one:
        two = Daemon(tmp_path / "two")
        two.config.write_text(two.config.read_text().replace(str(two.socket), str(one.socket)))
        code, line = starts(two)
        assert (code, line) == (
            1,
            f"ftd: {one.socket}: another daemon listens there; stop it, or set another [daemon] socket",
        )
        assert one.wait(one.submit(), "SUCCEEDED")


def test_a_daemon_whose_socket_is_taken_ends(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.stop()
        daemon.start(environment={"WATCHDOG_USEC": "200000"})
        daemon.socket.unlink()
        assert daemon.process is not None
        assert daemon.process.wait(timeout=30) == 1
        daemon.process = None
        assert daemon.log.read_text().splitlines()[-1].endswith("is no longer this daemon's socket")


def test_the_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660


def test_an_empty_database_beside_old_runs_is_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        job = daemon.submit()
        daemon.wait(job, "SUCCEEDED")
        daemon.stop()
        for file in daemon.state.glob("ftd.db*"):
            file.unlink()
        code, line = starts(daemon)
        assert code == 1
        assert f"has no jobs, but 1 that were started lie in {daemon.state / 'runs'} ({job}, …)" in line


def test_a_stop_leaves_the_jobs_running(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        job = daemon.submit({"steps": 10_000, "step_seconds": 0.01})
        daemon.until_step(job, 2)
        assert daemon.stop() == 0
        assert '"jobs_going_on": 1' in daemon.log.read_text()
        assert len(daemon.processes(job)) == 2


def test_a_stop_does_not_wait_for_streams(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        job = daemon.submit({"steps": 10_000, "step_seconds": 0.01})
        stream = daemon.stream(job)
        next(stream)
        assert daemon.stop() == 0


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Daemon(tmp_path) as daemon:
        manager.bind(f"/tmp/notify-{os.getpid()}")
        manager.settimeout(30)
        try:
            daemon.stop()
            daemon.start(environment={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"})
            assert manager.recv(4096).decode().startswith("READY=1\nSTATUS=serving on ")
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            daemon.stop()
            while (word := manager.recv(4096)) == b"WATCHDOG=1":
                continue
            assert word == b"STOPPING=1"
        finally:
            Path(manager.getsockname()).unlink()


def test_health_and_reflection_answer(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        health = health_pb2_grpc.HealthStub(daemon.channel)
        for name in ("", "finetuned.v1.JobService", "finetuned.v1.MetricService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(daemon.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection.ServerReflectionInfo(iter([request]))
        names = {service.name for service in listed.list_services_response.service}
        assert {f"finetuned.v1.{name}Service" for name in ("Job", "Metric", "Host", "Dataset", "Artifact")} <= names


def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        request = job_service_pb2.GetJobRequest(job="x" * (5 * 2**20))
        with pytest.raises(grpc.RpcError) as caught:
            daemon.jobs.GetJob(request)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_host_knows_itself(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        host = daemon.host.GetHost(host_service_pb2.GetHostRequest())
        assert (host.hostname, host.state_directory) == (socket.gethostname(), str(daemon.state))
        assert (len(host.devices), host.devices[0].id, host.inventory) == (1, "cpu", "cpu")
        assert 0 < host.devices[0].used_bytes < host.devices[0].total_bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return filler


def test_a_full_disk_refuses_jobs_in_words_and_loses_none(tmp_path: Path, small_disk: Path) -> None:
    with Daemon(tmp_path / "root", state=small_disk / "state") as daemon:
        kept = daemon.submit(hold=True)
        running = daemon.submit({"steps": 200, "step_seconds": 0.02}, maxRetries=0)
        daemon.until_step(running, 2)
        filler = fill(small_disk)
        code, reason, message = refusal(daemon.submit)
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert "disk" in message
        assert "full" in message
        assert daemon.state_of(kept) == "PAUSED"
        # The training cannot write its journal any more; what became of it is told when there is room again.
        eventually(lambda: not daemon.processes(running))
        filler.unlink()
        failed = daemon.wait(running, "FAILED")
        assert failed.failure.failure_class == event_pb2.FAILURE_CLASS_DISK_FULL
        daemon.wait(daemon.submit(), "SUCCEEDED")
        assert len(list((daemon.state / "runs").iterdir())) == 3


def test_the_command_line(tmp_path: Path) -> None:
    assert ftd("--version").stdout.startswith("ftd ")
    config = tmp_path / "ftd.toml"
    config.write_text("[trainer]\nthreds = 1\n")
    refused = ftd("--config", str(config), "check-config")
    assert refused.returncode == 2
    assert refused.stderr == f'ftd: {config}: [trainer] threds: unknown key; did you mean "threads"?\n'
    assert ftd("--config", str(config)).returncode == 2
    config.write_text("[trainer]\nthreads = 1\n")
    fine = ftd("--config", str(config), "check-config")
    assert (fine.returncode, fine.stdout) == (0, f"{config}: fine\n")
    config.write_text(f'[daemon]\nstate_directory = "{tmp_path}/s"\n[devices]\ninventory = "file"\nfile = "/nowhere"\n')
    refused = ftd("--config", str(config))
    assert (refused.returncode, refused.stderr) == (1, "ftd: /nowhere: cannot be read: No such file or directory\n")
