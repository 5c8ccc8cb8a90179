"""What may happen to a job, and ONE table of where that may lead.

The events come from clients, from the scheduler and from the processes of a job; `ftd.job.apply` makes the move. The
picture in daemon/README.md is drawn from TABLE. Nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftd.records import DataReport, Failure, JobState, MemoryEstimate, Outcome, Reason
from ftd.spec import TrainingSpec
from ftd.weights import Lineage

S = JobState
TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED})
# States in which processes of the job may exist.
LIVE = frozenset({S.PREPARING, S.STARTING, S.RUNNING, S.STOPPING})


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data is checked and tokenised."""

    report: DataReport
    directory: str
    estimate: MemoryEstimate
    lineage: Lineage | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """The scheduler gave the job devices; its processes are started next."""

    devices: tuple[str, ...]
    reserved_bytes: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """The trainer has said its first word."""


@dataclass(frozen=True, slots=True)
class Ended:
    """No process of the attempt (or of the preparation) is left."""

    outcome: Outcome
    failure: Failure | None = None
    checkpoint: str = ""
    peak_memory_bytes: int = 0
    step_seconds: float = 0.0
    stopped_at: int = 0
    stopped_of: int = 0


@dataclass(frozen=True, slots=True)
class Probed:
    """The trial is over, and the estimate knows what it measured."""

    ended: Ended
    estimate: MemoryEstimate


@dataclass(frozen=True, slots=True)
class Eased:
    """The attempt ran out of memory; the training was changed into one that needs less. `message` says how."""

    ended: Ended
    resolved: TrainingSpec
    estimate: MemoryEstimate
    message: str


@dataclass(frozen=True, slots=True)
class Waits:
    """The scheduler says why the job is not started."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants it ended."""

    save: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Somebody wants its devices back, and to go on later."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants it to end at its step, and to keep what it has learned."""


@dataclass(frozen=True, slots=True)
class PreemptRequested:
    """The scheduler wants its devices for another job; `message` says for which."""

    message: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """It should have ended by now."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A job that it comes after will never have ended as it must; `message` says which."""

    message: str


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """Somebody wants a paused job to go on."""


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """Somebody wants a failed or cancelled job to be tried again."""


Event = (
    Prepared
    | Placed
    | Running
    | Ended
    | Probed
    | Eased
    | Waits
    | CancelRequested
    | PauseRequested
    | StopRequested
    | PreemptRequested
    | DeadlinePassed
    | Abandoned
    | ResumeRequested
    | RetryRequested
)

# (state, event) -> the states it may lead to. Which one, `ftd.job` decides from the job and the event.
TABLE: dict[tuple[JobState, type[Event]], tuple[JobState, ...]] = {
    (S.PREPARING, Prepared): (S.QUEUED,),
    (S.PREPARING, Ended): (S.FAILED, S.PREPARING),
    (S.PREPARING, CancelRequested): (S.STOPPING,),
    (S.PREPARING, PauseRequested): (S.STOPPING,),
    (S.PREPARING, DeadlinePassed): (S.STOPPING,),
    (S.PREPARING, Abandoned): (S.STOPPING,),
    (S.QUEUED, Waits): (S.QUEUED,),
    (S.QUEUED, Placed): (S.STARTING,),
    (S.QUEUED, CancelRequested): (S.CANCELLED,),
    (S.QUEUED, PauseRequested): (S.PAUSED,),
    (S.QUEUED, DeadlinePassed): (S.FAILED,),
    (S.QUEUED, Abandoned): (S.CANCELLED,),
    (S.STARTING, Running): (S.RUNNING,),
    (S.STARTING, Ended): (S.SUCCEEDED, S.FAILED, S.QUEUED),
    (S.STARTING, Probed): (S.QUEUED,),
    (S.STARTING, Eased): (S.QUEUED,),
    (S.STARTING, CancelRequested): (S.STOPPING,),
    (S.STARTING, PauseRequested): (S.STOPPING,),
    (S.STARTING, PreemptRequested): (S.STOPPING,),
    (S.STARTING, DeadlinePassed): (S.STOPPING,),
    (S.RUNNING, Ended): (S.SUCCEEDED, S.FAILED, S.QUEUED),
    (S.RUNNING, Probed): (S.QUEUED,),
    (S.RUNNING, Eased): (S.QUEUED,),
    (S.RUNNING, CancelRequested): (S.STOPPING,),
    (S.RUNNING, PauseRequested): (S.STOPPING,),
    (S.RUNNING, StopRequested): (S.STOPPING,),
    (S.RUNNING, PreemptRequested): (S.STOPPING,),
    (S.RUNNING, DeadlinePassed): (S.STOPPING,),
    (S.STOPPING, Running): (S.STOPPING,),
    (S.STOPPING, Prepared): (S.CANCELLED, S.PAUSED, S.FAILED),
    (S.STOPPING, Ended): (S.CANCELLED, S.PAUSED, S.QUEUED, S.FAILED, S.SUCCEEDED),
    (S.STOPPING, Probed): (S.CANCELLED, S.PAUSED, S.QUEUED, S.FAILED),
    (S.STOPPING, Eased): (S.CANCELLED, S.PAUSED, S.QUEUED, S.FAILED),
    (S.STOPPING, CancelRequested): (S.STOPPING,),
    (S.STOPPING, PauseRequested): (S.STOPPING,),
    (S.STOPPING, DeadlinePassed): (S.STOPPING,),
    (S.PAUSED, ResumeRequested): (S.QUEUED, S.PREPARING),
    (S.PAUSED, CancelRequested): (S.CANCELLED,),
    (S.PAUSED, DeadlinePassed): (S.FAILED,),
    (S.PAUSED, Abandoned): (S.CANCELLED,),
    (S.FAILED, RetryRequested): (S.QUEUED, S.PREPARING),
    (S.CANCELLED, RetryRequested): (S.QUEUED, S.PREPARING),
}
# Where a stop leads, by what asked for it, and which of them outranks a stop that is under way.
STOPS: dict[type[Event], tuple[JobState, frozenset[JobState]]] = {
    CancelRequested: (S.CANCELLED, frozenset({S.PAUSED, S.QUEUED, S.FAILED, S.CANCELLED, S.SUCCEEDED})),
    Abandoned: (S.CANCELLED, frozenset()),
    DeadlinePassed: (S.FAILED, frozenset({S.PAUSED, S.QUEUED})),
    PauseRequested: (S.PAUSED, frozenset({S.QUEUED})),
    StopRequested: (S.SUCCEEDED, frozenset()),
    PreemptRequested: (S.QUEUED, frozenset()),
}
