"""A real `ftd` process for tests: private state, a declared inventory or the CPU, the fake trainer, a gRPC channel.

    with Daemon(tmp_path) as daemon:
        job = daemon.submit({"steps": 50})
        daemon.wait(job, "SUCCEEDED")
        daemon.kill(); daemon.start()

What the fake trainer does is the script given to `submit`; see tests/fakes/trainer.py. At the end the daemon is stopped
and every process that still carries the mark of one of its jobs is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from finetuned.v1 import (
    artifact_service_pb2_grpc,
    dataset_service_pb2_grpc,
    event_pb2,
    host_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
    training_pb2,
)

FAKE = Path(__file__).parents[1] / "fakes" / "trainer.py"
TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


class Daemon:
    """One state directory and the daemon on it, which may be stopped, killed and started again."""

    def __init__(
        self,
        root: Path,
        *,
        state: Path | None = None,
        devices: dict[str, Any] | None = None,
        trainer: dict[str, Any] | None = None,
        queue: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        security: dict[str, Any] | None = None,
        launcher: tuple[str, ...] = (),
    ) -> None:
        self.root = root
        self.state = state or root / "state"
        # Below /tmp, whatever the test's folder: a socket's path has at most 107 bytes.
        self.socket = Path(f"/tmp/ftd-test-{os.getpid()}-{next(_NUMBERS)}.sock")
        self.config = root / "ftd.toml"
        self.log = root / "ftd.log"
        self.launcher = launcher
        self.process: subprocess.Popen[bytes] | None = None
        self._rows = itertools.count()
        command = [sys.executable, str(FAKE)]
        sections: dict[str, dict[str, Any]] = {
            "daemon": {"state_directory": str(self.state), "socket": str(self.socket), "log_format": "json"},
            "paths": {name: [str(root)] for name in ("model_roots", "data_roots", "output_roots")},
            "devices": {"inventory": "cpu", "cpu_jobs": 4, **(devices or {})},
            "trainer": {
                "rank_command": command,
                "prepare_command": command,
                "stop_grace_seconds": 2.0,
                "kill_grace_seconds": 2.0,
                **(trainer or {}),
            },
            "queue": queue or {},
            "limits": limits or {},
            "security": security or {},
        }
        root.mkdir(parents=True, exist_ok=True)
        self.config.write_text(_toml(sections))
        self.model = make_model(root / "model")

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.sweep()
        self.socket.unlink(missing_ok=True)

    # The process

    def start(self, *, ready: bool = True, environment: dict[str, str] | None = None) -> Daemon:
        with self.log.open("ab") as log:
            command = [*self.launcher, str(Path(sys.executable).with_name("ftd")), "--config", str(self.config)]
            # Not this test's signals: Ctrl-C stops the test, and the test stops the daemon.
            env = {**os.environ, **(environment or {})}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=env)
        if ready:
            self._connect()
        return self

    def _connect(self) -> None:
        # Before there is a channel: a channel that was refused once waits a second before it tries again.
        eventually(self._listens)
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=[("grpc.http2.bdp_probe", 0)])
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.metrics = metric_service_pb2_grpc.MetricServiceStub(self.channel)
        self.host = host_service_pb2_grpc.HostServiceStub(self.channel)
        self.data = dataset_service_pb2_grpc.DatasetServiceStub(self.channel)
        self.artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(self.channel)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self) -> int:
        """Ends it as systemd does; its exit code."""
        if self.process is None:
            return 0
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if hasattr(self, "channel"):
            self.channel.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"it did not end:\n{self.log.read_text()}") from None
        self.process = None
        return code

    def sweep(self) -> None:
        """Kills what the jobs of this daemon still run."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, job: str = "") -> list[int]:
        """All processes of the jobs of this daemon, or of one job: keepers, ranks and what they started."""
        runs = str(self.state / "runs" / job).encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and any(
                entry.startswith(b"HOME=" + runs) for entry in _environment(int(folder.name))
            ):
                found.append(int(folder.name))
        return found

    # Jobs

    def spec(self, script: dict[str, Any] | None = None, **fields: Any) -> job_pb2.JobSpec:
        """A spec that the daemon accepts, for a fake training that does as `script` says; `fields` in JSON form."""
        rows = self.root / f"rows-{next(self._rows)}.jsonl"
        rows.write_text('{"text": "a row"}\n')
        Path(f"{rows}.fake.json").write_text(json.dumps(script or {}))
        spec = job_pb2.JobSpec()
        spec.training.model.path = str(self.model)
        spec.training.data.train.add(path=str(rows), format=training_pb2.FORMAT_TEXT)
        spec.training.data.max_length = 64
        spec.training.resources.memory_bytes = 64 * 2**20
        json_format.ParseDict(fields, spec)
        return spec

    def submit(self, script: dict[str, Any] | None = None, *, request_id: str = "", **fields: Any) -> str:
        """Submits a job; its id."""
        request = job_service_pb2.CreateJobRequest(spec=self.spec(script, **fields), request_id=request_id)
        return self.jobs.CreateJob(request).job.id

    def get(self, job: str) -> job_pb2.Job:
        return self.jobs.GetJob(job_service_pb2.GetJobRequest(job=job)).job

    def state_of(self, job: str) -> str:
        return job_pb2.JobState.Name(self.get(job).state).removeprefix("JOB_STATE_")

    def wait(self, job: str, *states: str, seconds: float = 60) -> job_pb2.Job:
        """The job, as soon as it is in one of these states. Fails at once if it ends in another."""
        deadline = time.monotonic() + seconds
        while (state := self.state_of(job)) not in states:
            story = json_format.MessageToJson(self.get(job))
            assert state not in TERMINAL, f"it is {state}: {story}\n{self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"it stays {state}: {story}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.02)
        return self.get(job)

    def until_step(self, job: str, step: int, seconds: float = 60) -> None:
        """Returns when the training has done so many steps."""
        eventually(lambda: self.get(job).progress.step >= step, seconds)

    # Streams

    def stream(self, job: str, after_seq: int = 0, **fields: Any) -> Iterator[metric_service_pb2.StreamMetricsResponse]:
        request = metric_service_pb2.StreamMetricsRequest(job=job, after_seq=after_seq, **fields)
        return self.metrics.StreamMetrics(request)

    def events(self, job: str, after_seq: int = 0) -> list[event_pb2.TrainingEvent]:
        """All events, to the end of the job."""
        return [event for message in self.stream(job, after_seq) for event in message.events]

    def steps(self, job: str) -> list[int]:
        return [event.step.step for event in self.events(job) if event.HasField("step")]


_NUMBERS = itertools.count()


def make_model(folder: Path) -> Path:
    """A folder that looks like a model to the daemon, which never loads one."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits until something is true that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def refusal(call: Callable[[], object], violations: list[str] | None = None) -> tuple[grpc.StatusCode, str, str]:
    """The code, reason and message a call is refused with; the fields of its violations go into the list."""
    try:
        answer = call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None
        reason = error_details_pb2.ErrorInfo()
        problems = error_details_pb2.BadRequest()
        for detail in status.details:
            detail.Unpack(reason)
            detail.Unpack(problems)
        if violations is not None:
            violations += [violation.field for violation in problems.field_violations]
        return error.code(), reason.reason, status.message
    raise AssertionError(f"it was not refused: {answer}")


def _toml(sections: dict[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {_toml_value(value)}" for key, value in section.items())
        for name, section in sections.items()
    )


def _toml_value(value: Any) -> str:
    # A JSON string, number, boolean or list of these is one in TOML, too.
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
