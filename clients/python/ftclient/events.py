"""What a job reports while it is prepared and trained, as frozen records; see `ftclient.results` for their manners.

A metrics stream yields `Event`s; look at `kind` with `match` or `isinstance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ftclient.enums import Outcome, Phase
from ftclient.results import DataReport, Failure, Record


@dataclass(frozen=True, slots=True)
class Join(Record):
    """Where a job goes on from another one; if its rows come in the same order, updates and passes are counted on."""

    job: str
    step: int
    counts_on: bool


@dataclass(frozen=True, slots=True)
class AttemptStarted(Record):
    """The training loop is about to run its first step."""

    first_step: int
    total_steps: int
    world_size: int
    trainable_parameters: int
    parameters: int
    joined: Join | None


@dataclass(frozen=True, slots=True)
class PhaseChanged(Record):
    """The job does something else now; `fraction` of it is done, where known."""

    phase: Phase | None
    fraction: float | None


@dataclass(frozen=True, slots=True)
class StepMetrics(Record):
    """After each optimizer update. A loss or norm that is not a number is given as it is."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    tokens_per_second: float
    step_seconds: float
    peak_memory_bytes: int
    extra: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationMetrics(Record):
    """After each evaluation; `value` is the figure that tells which is the best, as this one is so far if `best`."""

    step: int
    epoch: float
    loss: float
    seconds: float
    extra: Mapping[str, float]
    best: bool
    value: float


@dataclass(frozen=True, slots=True)
class GeneratedAnswer(Record):
    """What the model wrote for a row, counted from 1, of an evaluation set, and what was expected."""

    set: str
    row: int
    prompt: str
    expected: str
    generated: str


@dataclass(frozen=True, slots=True)
class GeneratedAnswers(Record):
    """Answers to evaluation rows; at step 0 those of the untrained model."""

    step: int
    answers: tuple[GeneratedAnswer, ...]


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Record):
    """A checkpoint with its manifest is complete on disk."""

    step: int
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Notice(Record):
    """Something a person should know and nobody has to act on."""

    text: str


@dataclass(frozen=True, slots=True)
class AttemptEnded(Record):
    """The last event of an attempt."""

    outcome: Outcome | None
    failure: Failure | None
    checkpoint: str
    peak_memory_bytes: int
    step_seconds: float
    stopped_at: int
    stopped_of: int


Kind = (
    AttemptStarted
    | PhaseChanged
    | StepMetrics
    | EvaluationMetrics
    | GeneratedAnswers
    | CheckpointSaved
    | DataReport
    | Notice
    | AttemptEnded
)


@dataclass(frozen=True, slots=True)
class Event(Record):
    """One thing that happened. `seq` counts from 1 over all attempts; attempt 0 is the preparation."""

    seq: int
    time: datetime
    attempt: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class LogLine(Record):
    """One line that a process of the job printed; rank -1 is the keeper."""

    seq: int
    time: datetime
    attempt: int
    rank: int
    text: str
