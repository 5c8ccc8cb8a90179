"""What is known of a job: plain frozen records that mirror the public messages field by field.

`ftd.wire` converts them by name, and a test compares the two, so neither can drift. Times are seconds since the epoch,
sizes are bytes. Nothing here decides anything, reads a clock or touches the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto

from ftd.datasets import Format


class JobState(StrEnum):
    """Where a job is in its life; `ftd.job` has the moves between them."""

    PREPARING = auto()
    QUEUED = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    PAUSED = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()


class ReasonCode(StrEnum):
    """Why a job is in its state, for machines."""

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
    DEVICE_UNFIT = auto()
    NOT_ENOUGH_HOST_MEMORY = auto()
    NOT_ENOUGH_DISK = auto()
    QUOTA_REACHED = auto()
    WAITING_FOR_PREEMPTION = auto()
    WAITING_FOR_JOBS = auto()
    NOT_BEFORE = auto()
    DEPENDENCY_FAILED = auto()
    PREEMPTED = auto()
    DEADLINE_PASSED = auto()
    LESS_MEMORY = auto()
    PROBED = auto()
    STOP_REQUESTED = auto()
    STOPPED_EARLY = auto()


class Phase(StrEnum):
    """What a job is busy with inside a state."""

    READING_DATA = auto()
    TOKENIZING = auto()
    LOADING_MODEL = auto()
    TRAINING = auto()
    EVALUATING = auto()
    SAVING = auto()
    EXPORTING = auto()
    ANSWERING = auto()


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = auto()
    STOPPED = auto()
    FAILED = auto()


class FailureClass(StrEnum):
    """Why something failed; the class says what to do about it."""

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


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job is in its state, for machines (`code`) and for people (`message`)."""

    code: ReasonCode
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong: class, one line of what happened, one line of what to change."""

    failure_class: FailureClass
    message: str
    advice: str = ""
    rank: int = -1


@dataclass(frozen=True, slots=True)
class Transition:
    """One move of a job; `from_state` is None for the first."""

    time: float
    from_state: JobState | None
    to_state: JobState
    actor: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the training processes, numbered from 1. Open while `end_time` is None."""

    number: int
    devices: tuple[str, ...]
    start_time: float
    end_time: float | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None
    resumed_from: str = ""
    checkpoint: str = ""
    reserved_bytes: int = 0
    peak_memory_bytes: int = 0
    probe: bool = False
    micro_batch: int = 0
    gradient_checkpointing: bool = False
    estimated_bytes: int = 0
    step_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job is now, folded from its events. Not stored: the journal has it."""

    phase: Phase | None = None
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float = 0.0
    tokens_per_second: float = 0.0
    eta_seconds: float | None = None
    peak_memory_bytes: int = 0
    last_seq: int = 0
    best_step: int | None = None
    best_value: float | None = None
    phase_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryTerm:
    """One term of a memory estimate."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory a job will need on each device; see the message of the same name."""

    terms: tuple[MemoryTerm, ...]
    peak_bytes: int
    reserve_bytes: int
    peak_moment: str
    uncertainty: float
    sequence_length: int
    basis: str
    host_bytes: int = 0
    disk_bytes: int = 0
    token_operations: float = 0.0


@dataclass(frozen=True, slots=True)
class Fix:
    """A change of a spec that makes it need less memory; `changes` has what to set by path into JobSpec."""

    description: str
    changes: Mapping[str, str]
    estimate: MemoryEstimate | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a waiting job is expected to start."""

    earliest: float
    expected: float
    latest: float


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a job takes from its start, in seconds; `uncertainty` is the half-width as a share of that."""

    seconds: float
    uncertainty: float
    basis: str


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Rows of up to so many tokens, and of more than those of the bin before."""

    up_to: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Counts of one split of the prepared data."""

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest_row_tokens: int = 0
    truncated_rows: int = 0
    duplicate_rows: int = 0
    lengths: tuple[LengthBin, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Counts of one source file; `format` as given or as told from its columns."""

    path: str
    format: Format | None = None
    rows_read: int = 0
    rows_used: int = 0
    rows_dropped: int = 0
    sha256: str = ""
    decided: str = ""


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that was left out: index of its source, its number from 1, and why."""

    source: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The evaluation rows of one source."""

    name: str = ""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class DataReport:
    """What the preparation found in a job's data."""

    train: SplitReport = field(default_factory=SplitReport)
    eval: SplitReport | None = None
    sources: tuple[SourceReport, ...] = ()
    dropped: tuple[DroppedRow, ...] = ()
    digest: str = ""
    from_cache: bool = False
    evaluation_sets: tuple[EvaluationSet, ...] = ()
    remarks: tuple[str, ...] = ()


class ArtifactKind(StrEnum):
    """What an artifact is."""

    ADAPTER = auto()
    MODEL = auto()
    CHECKPOINT = auto()


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact; `path` is relative to the artifact's."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder a job left behind, complete by its manifest."""

    kind: ArtifactKind
    name: str
    path: str
    step: int
    files: tuple[ArtifactFile, ...]
    bytes: int
