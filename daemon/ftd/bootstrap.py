"""The one message an attempt is started with, and the one it ends with. The only reader and writer of these two.

The environment of the processes is built here from nothing: what the daemon was started with never reaches a job, so
that the same spec gives the same training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_preview_pb2, training_pb2, weights_pb2
from ftd.caps import caps
from ftd.job import Job
from ftd.moves import Ended
from ftd.process import MARK, Identity
from ftd.records import DataReport, Failure, Outcome
from ftd.rundir import RunDirectory
from ftd.spec import TrainingSpec
from ftd.weights import Lineage
from ftd.wire import from_proto, to_proto

PROTOCOL = 1
# A DataReport lists 100 dropped rows at most.
_LONGEST_EXIT = 4 << 20
_LONGEST_KEEPER = 1 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# They choose the CPU kernels of numpy where its own detection is wrong, so they belong to the machine, not to the job.
_OF_THE_MACHINE = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True, slots=True)
class Preview:
    """Rows to show: of which source, from which number (0: the first that can be used), and how many."""

    source: str
    row: int
    rows: int


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What the host's configuration says about every attempt. Commands are argument lists; times are seconds."""

    state_directory: Path
    prepare_command: tuple[str, ...]
    rank_command: tuple[str, ...]
    allow_remote_code: bool
    allow_hub: bool
    stop_grace_seconds: float
    kill_grace_seconds: float
    # 0: the libraries' own default.
    threads: int
    daemon_version: str
    # Folder of the host's secrets.
    secrets: Path | None = None
    fetched_bytes: int = 0
    # Of a look at data: the preparation shows these rows and writes none.
    preview: Preview | None = None

    @property
    def prepared_root(self) -> Path:
        """The cache of prepared rows."""
        return self.state_directory / "prepared"


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended; no process of it is left. From `report` on they belong to attempt 0."""

    outcome: Outcome
    failure: Failure | None = None
    checkpoint: str = ""
    peak_memory_bytes: int = 0
    step_seconds: float = 0.0
    stopped_at: int = 0
    stopped_of: int = 0
    report: DataReport | None = None
    prepared_directory: str = ""
    lineage: Lineage | None = None


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who keeps an attempt, and the pids of its ranks."""

    identity: Identity
    ranks: tuple[int, ...]


def mark(job_id: str, attempt: int) -> str:
    """Value of the variable that every process of an attempt inherits."""
    return f"{job_id}/{attempt}"


def build(
    job: Job, attempt: int, devices: Sequence[str], run: RunDirectory, settings: LaunchSettings
) -> trainer_pb2.Bootstrap:
    """The message for one attempt. Reads every byte of the newest checkpoint: call it in a thread."""
    bounds = caps(job)
    probe = attempt > 0 and job.probing
    return trainer_pb2.Bootstrap(
        protocol=PROTOCOL,
        job_id=job.id,
        job_name=job.name,
        attempt=attempt,
        run_directory=str(run.path),
        spec=to_proto(job.resolved, training_pb2.TrainingSpec),
        rank_command=settings.rank_command if attempt else settings.prepare_command,
        device_ids=["" if device == "cpu" else device for device in devices],
        memory_cap_bytes=bounds.device_bytes,
        host_cap_bytes=bounds.host_bytes,
        fetched_bytes=settings.fetched_bytes,
        prepared_root=str(settings.prepared_root),
        prepared_directory=job.prepared_directory,
        resume_from=run.latest_checkpoint() if attempt and not probe else "",
        allow_remote_code=settings.allow_remote_code,
        allow_hub=settings.allow_hub,
        stop_grace_seconds=settings.stop_grace_seconds,
        kill_grace_seconds=settings.kill_grace_seconds,
        environment=environment(job.id, attempt, run, settings) | _trace(job),
        threads=settings.threads,
        daemon_version=settings.daemon_version,
        output_path=job.output_path or str(run.output_path),
        probe=probe,
        preview=to_proto(settings.preview, trainer_pb2.Preview) if settings.preview else None,
        hub_token_path=_hub_token_path(job.resolved, settings),
        lineage=to_proto(job.lineage, weights_pb2.Lineage) if job.lineage else None,
    )


def _hub_token_path(training: TrainingSpec, settings: LaunchSettings) -> str:
    push = training.output.push
    if push is None or not push.token_secret or settings.secrets is None:
        return ""
    return str(settings.secrets / push.token_secret)


def environment(job_id: str, attempt: int, run: RunDirectory, settings: LaunchSettings) -> dict[str, str]:
    """The whole environment of the attempt's processes; the keeper adds what differs from rank to rank."""
    variables = {
        MARK: mark(job_id, attempt),
        "PATH": _PATH,
        "HOME": str(run.path),
        "LANG": "C.UTF-8",
        "HF_HOME": str(settings.state_directory / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        # A job can write to its working directory; modules are not loaded from there.
        "PYTHONSAFEPATH": "1",
        # What was printed last is what explains a sudden end.
        "PYTHONUNBUFFERED": "1",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        # Threads that wait must sleep: spinning ones take the cores from those they wait for as soon as anybody else
        # computes on this host, and steps take many times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if not settings.allow_hub:
        variables["HF_HUB_OFFLINE"] = "1"
    if settings.threads:
        variables["OMP_NUM_THREADS"] = str(settings.threads)
    return variables | {name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ}


def _trace(job: Job) -> dict[str, str]:
    """The trace that the job belongs to, by the name that OpenTelemetry gives it in an environment."""
    return {"TRACEPARENT": job.traceparent} if job.traceparent else {}


def read_exit(run: RunDirectory, attempt: int, since: float = 0.0) -> Exit | None:
    """The keeper's last word, if it has spoken at or after the time `since`."""
    content = run.read_attempt_file(attempt, "exit.json", _LONGEST_EXIT)
    if content is None:
        return None
    try:
        word = json_format.Parse(content, trainer_pb2.AttemptExit(), ignore_unknown_fields=True)
        ended = from_proto(Ended, word.ended)
    # A word nobody understands is no word.
    except (json_format.ParseError, ValueError):
        return None
    if word.time.ToNanoseconds() / 1e9 < since:
        return None
    return Exit(
        outcome=ended.outcome,
        failure=ended.failure,
        checkpoint=ended.checkpoint,
        peak_memory_bytes=ended.peak_memory_bytes,
        step_seconds=ended.step_seconds,
        stopped_at=ended.stopped_at,
        stopped_of=ended.stopped_of,
        report=from_proto(DataReport, word.data) if word.HasField("data") else None,
        prepared_directory=word.prepared_directory,
        lineage=from_proto(Lineage, word.lineage) if word.HasField("lineage") else None,
    )


def read_previewed(run: RunDirectory) -> list[data_preview_pb2.PreviewedRow]:
    """The rows that a preparation has shown."""
    content = run.read_attempt_file(0, "rank-0.json", _LONGEST_EXIT)
    return list(json_format.Parse(content or b"{}", trainer_pb2.RankResult(), ignore_unknown_fields=True).previewed)


def read_keeper(run: RunDirectory, attempt: int, since: float = 0.0) -> Keeper | None:
    """Who keeps the attempt, if it was started at or after the time `since`."""
    content = run.read_attempt_file(attempt, "keeper.json", _LONGEST_KEEPER)
    if content is None:
        return None
    try:
        record = json_format.Parse(content, trainer_pb2.KeeperRecord(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError):
        return None
    if record.start_time.ToNanoseconds() / 1e9 < since:
        return None
    keeper = Identity(record.keeper.pid, record.keeper.start_ticks, record.boot_id)
    return Keeper(keeper, tuple(rank.pid for rank in record.ranks))
