"""What the daemon answers, as frozen records that mirror the public messages field by field.

Times are aware datetimes in UTC, sizes bytes, None is "not set". An enum value that a newer daemon sends and this
client does not know reads as UNKNOWN. Each record's `proto` is the message it was read from. A job's `spec` and
`resolved` stay messages: they are what `Client.submit` takes. `ftclient.wire` reads them; nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuned.v1.job_pb2 import JobSpec
    from finetuned.v1.training_pb2 import TrainingSpec


class JobState(StrEnum):
    """Where a job is in its life."""

    UNKNOWN = auto()
    PREPARING = auto()
    QUEUED = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    PAUSED = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()

    @property
    def finished(self) -> bool:
        """Whether a job in this state has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class ReasonCode(StrEnum):
    """Why a job is in its state, for machines."""

    UNKNOWN = auto()
    SUBMITTED = auto()
    PREPARED = auto()
    BEHIND_OTHER_JOBS = auto()
    NOT_ENOUGH_FREE_MEMORY = auto()
    NOT_ENOUGH_FREE_DEVICES = auto()
    FOREIGN_PROCESS = auto()
    PINNED_DEVICES_BUSY = auto()
    PLACED = auto()
    STARTED = auto()
    HELD = auto()
    RESUMED = auto()
    PAUSE_REQUESTED = auto()
    CANCEL_REQUESTED = auto()
    RETRY = auto()
    COMPLETED = auto()
    FAILED = auto()
    DEVICE_MISSING = auto()


class Phase(StrEnum):
    """What a job is busy with inside a state."""

    UNKNOWN = auto()
    READING_DATA = auto()
    TOKENIZING = auto()
    LOADING_MODEL = auto()
    TRAINING = auto()
    EVALUATING = auto()
    SAVING = auto()
    EXPORTING = auto()


class Outcome(StrEnum):
    """How an attempt ended."""

    UNKNOWN = auto()
    COMPLETED = auto()
    STOPPED = auto()
    FAILED = auto()


class FailureClass(StrEnum):
    """Why something failed; the class says what to do about it."""

    UNKNOWN = auto()
    OUT_OF_GPU_MEMORY = auto()
    OUT_OF_HOST_MEMORY = auto()
    DATA_INVALID = auto()
    MODEL_LOAD = auto()
    LOSS_DIVERGED = auto()
    DISK_FULL = auto()
    COLLECTIVE_TIMEOUT = auto()
    WORKER_KILLED = auto()
    WORKER_LOST = auto()
    PREEMPTED = auto()
    DEADLINE_EXCEEDED = auto()
    TRACKER = auto()
    INTERNAL = auto()


class Format(StrEnum):
    """Shape of a data row."""

    UNKNOWN = auto()
    ALPACA = auto()
    SHAREGPT = auto()
    MESSAGES = auto()
    PROMPT_COMPLETION = auto()
    TEXT = auto()
    PREFERENCE = auto()


class DeviceKind(StrEnum):
    """Kind of device."""

    UNKNOWN = auto()
    GPU = auto()
    CPU = auto()


class ArtifactKind(StrEnum):
    """What an artifact is."""

    UNKNOWN = auto()
    ADAPTER = auto()
    MODEL = auto()
    CHECKPOINT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Root of all records. `proto` is the message it was read from."""

    proto: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reason(Record):
    """Why a job is in its state, for machines (`code`) and for people (`message`)."""

    code: ReasonCode | None
    message: str


@dataclass(frozen=True, slots=True)
class Failure(Record):
    """What went wrong: class, one line of what happened, one line of what to change; rank -1: it was not a rank."""

    failure_class: FailureClass | None
    message: str
    advice: str
    rank: int


@dataclass(frozen=True, slots=True)
class Transition(Record):
    """One move of a job; `from_state` is None for the first."""

    time: datetime
    from_state: JobState | None
    to_state: JobState
    actor: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Attempt(Record):
    """One start of the training processes, numbered from 1. It runs while `end_time` is None."""

    number: int
    devices: tuple[str, ...]
    start_time: datetime
    end_time: datetime | None
    outcome: Outcome | None
    failure: Failure | None
    resumed_from: str
    checkpoint: str
    reserved_bytes: int
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """Where a job is now; `total_steps` is 0 until known."""

    phase: Phase | None
    step: int
    total_steps: int
    epoch: float
    loss: float | None
    eval_loss: float | None
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float | None
    peak_memory_bytes: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class MemoryTerm(Record):
    """One term of a memory estimate."""

    name: str
    bytes: int
    note: str


@dataclass(frozen=True, slots=True)
class MemoryEstimate(Record):
    """Memory a job will need on each device; `uncertainty` is a share of `peak_bytes`."""

    terms: tuple[MemoryTerm, ...]
    peak_bytes: int
    reserve_bytes: int
    peak_moment: str
    uncertainty: float
    sequence_length: int
    basis: str


@dataclass(frozen=True, slots=True)
class SplitReport(Record):
    """Counts of one split of the prepared data."""

    rows: int
    tokens: int
    trained_tokens: int
    longest_row_tokens: int
    truncated_rows: int


@dataclass(frozen=True, slots=True)
class SourceReport(Record):
    """Counts of one source file."""

    path: str
    format: Format | None
    rows_read: int
    rows_used: int
    rows_dropped: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DroppedRow(Record):
    """A row that was left out: index of its source, its number from 1, and why."""

    source: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class DataReport(Record):
    """What the preparation found in a job's data; also an event."""

    train: SplitReport | None
    eval: SplitReport | None
    sources: tuple[SourceReport, ...]
    dropped: tuple[DroppedRow, ...]
    digest: str
    from_cache: bool


@dataclass(frozen=True, slots=True)
class Job(Record):
    """A job. Lists leave out `resolved`, `transitions` and `attempts`; `Client.get` has them."""

    id: str
    name: str
    project: str
    labels: Mapping[str, str]
    priority: int
    spec: JobSpec | None
    resolved: TrainingSpec | None
    state: JobState
    reason: Reason | None
    progress: Progress | None
    transitions: tuple[Transition, ...]
    attempts: tuple[Attempt, ...]
    estimate: MemoryEstimate | None
    data: DataReport | None
    failure: Failure | None
    output_path: str
    create_time: datetime
    update_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    revision: int
    run_directory: str


@dataclass(frozen=True, slots=True)
class Violation(Record):
    """One problem the daemon found in a spec; `field` is a path into JobSpec."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """What submitting a spec would do. With violations the rest is empty."""

    violations: tuple[Violation, ...]
    resolved: TrainingSpec | None
    estimate: MemoryEstimate | None
    devices: tuple[str, ...]
    wait_reason: Reason | None


@dataclass(frozen=True, slots=True)
class DeviceUse(Record):
    """A job on a device, or (`job` is empty) a process that is not the daemon's."""

    job: str
    pid: int
    process_name: str
    used_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Device(Record):
    """A GPU, or the CPU with the host's memory (index -1)."""

    id: str
    kind: DeviceKind
    name: str
    index: int
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    uses: tuple[DeviceUse, ...]
    utilization_percent: int | None
    temperature_celsius: int | None


@dataclass(frozen=True, slots=True)
class Host(Record):
    """The daemon's host."""

    hostname: str
    version: str
    start_time: datetime
    devices: tuple[Device, ...]
    state_directory: str
    state_free_bytes: int
    inventory: str
    jobs_by_state: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class QueuedJob(Record):
    """A job that waits, and why."""

    job: str
    name: str
    project: str
    priority: int
    position: int
    queue_time: datetime
    reason: Reason | None
    waits_for: tuple[str, ...]
    devices: int
    bytes_per_device: int


@dataclass(frozen=True, slots=True)
class ArtifactFile(Record):
    """A file of an artifact; `path` is relative to it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact(Record):
    """What a job left: its output or a checkpoint."""

    kind: ArtifactKind | None
    name: str
    path: str
    step: int
    files: tuple[ArtifactFile, ...]
    bytes: int
