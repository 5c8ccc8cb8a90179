"""What the daemon answers, as frozen records that mirror the public messages field by field.

Times are aware datetimes in UTC, sizes bytes, None is "not set". An enum value that a newer daemon sends and this
client does not know reads as UNKNOWN. Each record's `proto` is the message it was read from. A job's `spec` and
`resolved` stay messages: they are what `Client.submit` takes. `ftclient.wire` reads them; nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ftclient.enums import (
    DependencyCondition,
    FailureClass,
    Format,
    JobState,
    Outcome,
    Phase,
    ReasonCode,
    TrackerState,
)

if TYPE_CHECKING:
    from finetuned.v1.job_pb2 import JobSpec
    from finetuned.v1.training_pb2 import TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Root of all records. `proto` is the message it was read from."""

    proto: Any = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        from ftclient.notebook import table

        return table(self)


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
    """One start of the training processes, numbered from 1. It runs while `end_time` is None.

    A `probe` only measures. `micro_batch` and `gradient_checkpointing` are what it ran with, `estimated_bytes` what the
    estimate said when it was started, `step_seconds` the mean over its steps, 0 if it made none.
    """

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
    probe: bool
    micro_batch: int
    gradient_checkpointing: bool
    estimated_bytes: int
    step_seconds: float


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """Where a job is now; `total_steps` is 0 until known, the best evaluation None before the first."""

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
    best_step: int | None
    best_value: float | None
    phase_fraction: float | None


@dataclass(frozen=True, slots=True)
class MemoryTerm(Record):
    """One term of a memory estimate."""

    name: str
    bytes: int
    note: str


@dataclass(frozen=True, slots=True)
class MemoryEstimate(Record):
    """Memory a job will need on each device; `uncertainty` is a share of `peak_bytes`.

    `host_bytes` and `disk_bytes` are reserved once for the whole job. `token_operations` are the floating-point
    operations of training on one token, 0 where unknown.
    """

    terms: tuple[MemoryTerm, ...]
    peak_bytes: int
    reserve_bytes: int
    peak_moment: str
    uncertainty: float
    sequence_length: int
    basis: str
    host_bytes: int
    disk_bytes: int
    token_operations: float


@dataclass(frozen=True, slots=True)
class Forecast(Record):
    """When a waiting job is expected to start: if all goes faster than estimated, as estimated, and slower."""

    earliest: datetime
    expected: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class Duration(Record):
    """How long a job takes from its start, without waiting; `uncertainty` is a share of `seconds`."""

    seconds: float
    uncertainty: float
    basis: str


@dataclass(frozen=True, slots=True)
class Dependency(Record):
    """A job that must have ended first, and how; the condition None is `ok`."""

    job: str
    condition: DependencyCondition | None


@dataclass(frozen=True, slots=True)
class LengthBin(Record):
    """Rows of up to so many tokens, and of more than those of the bin before."""

    up_to: int
    rows: int


@dataclass(frozen=True, slots=True)
class SplitReport(Record):
    """Counts of one split of the prepared data."""

    rows: int
    tokens: int
    trained_tokens: int
    longest_row_tokens: int
    truncated_rows: int
    duplicate_rows: int
    lengths: tuple[LengthBin, ...]


@dataclass(frozen=True, slots=True)
class SourceReport(Record):
    """Counts of one source file."""

    path: str
    format: Format | None
    rows_read: int
    rows_used: int
    rows_dropped: int
    sha256: str
    decided: str


@dataclass(frozen=True, slots=True)
class DroppedRow(Record):
    """A row that was left out: index of its source, its number from 1, and why."""

    source: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluationSet(Record):
    """The evaluation rows of one source."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class DataReport(Record):
    """What the preparation found in a job's data; also an event."""

    train: SplitReport | None
    eval: SplitReport | None
    sources: tuple[SourceReport, ...]
    dropped: tuple[DroppedRow, ...]
    digest: str
    from_cache: bool
    evaluation_sets: tuple[EvaluationSet, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ancestor(Record):
    """Weights or a checkpoint that a job takes, and the job and step they are of; empty and 0 where nobody knows."""

    field: str
    job: str
    step: int
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Lineage(Record):
    """Where the weights of a job come from."""

    base_model: str
    base_revision: str
    base_digest: str
    ancestors: tuple[Ancestor, ...]
    data_digest: str


@dataclass(frozen=True, slots=True)
class TrackerStatus(Record):
    """How far a tracker is: the last event it was told, and where its run is to be seen or why it failed."""

    name: str
    state: TrackerState
    message: str
    seq: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Job(Record):
    """A job. Lists leave out `resolved`, `transitions`, `attempts` and `annotations`; `Client.get` has them.

    `traceparent` is the W3C trace that it was submitted in, empty if there was none.
    """

    id: str
    name: str
    project: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
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
    dependencies: tuple[Dependency, ...]
    front: bool
    lineage: Lineage | None
    trackers: tuple[TrackerStatus, ...]
    traceparent: str


@dataclass(frozen=True, slots=True)
class Violation(Record):
    """One problem the daemon found in a spec; `field` is a path into JobSpec."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Fix(Record):
    """A change of a spec that makes it need less: in words, what to set by path into JobSpec, what it needs then."""

    description: str
    changes: Mapping[str, str]
    estimate: MemoryEstimate | None


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """What submitting a spec would do. With violations the rest is empty.

    It would start on `devices` now, or wait for `wait_reason` until `forecast`. `fixes`, the cheapest first, are there
    if no device of the host could ever hold it. `total_steps` and `tokens` are 0 as long as the data is not known.
    """

    violations: tuple[Violation, ...]
    resolved: TrainingSpec | None
    estimate: MemoryEstimate | None
    devices: tuple[str, ...]
    wait_reason: Reason | None
    forecast: Forecast | None
    total_steps: int
    tokens: int
    duration: Duration | None
    fixes: tuple[Fix, ...]


@dataclass(frozen=True, slots=True)
class DeviceVerdict(Record):
    """Whether a device could take a job now; `label` is its name for people, `message` has the numbers."""

    device: str
    label: str
    fits: bool
    message: str


@dataclass(frozen=True, slots=True)
class Explanation(Record):
    """Why a job is where it is. `position` is 0 if it does not wait for devices.

    `order` is what puts it at its place, the strongest first; the job is without transitions and resolved spec.
    """

    job: Job
    waits_for: tuple[str, ...]
    position: int
    forecast: Forecast | None
    duration: Duration | None
    order: tuple[str, ...]
    devices: tuple[DeviceVerdict, ...]
