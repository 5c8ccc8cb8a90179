"""The contract's enums as texts: what `str` gives is what spec files and the command line say.

Members stand in the order of the contract's numbers, UNKNOWN in the place of UNSPECIFIED. Nothing here computes.
"""

from __future__ import annotations

from enum import StrEnum, auto


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

    UNKNOWN = auto()
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
    KTO = auto()
    PROMPT = auto()


class DeviceKind(StrEnum):
    """Kind of device."""

    UNKNOWN = auto()
    GPU = auto()
    CPU = auto()


class TrackerState(StrEnum):
    """What a tracker of a job is doing."""

    UNKNOWN = auto()
    FOLLOWING = auto()
    DONE = auto()
    FAILED = auto()


class ArtifactKind(StrEnum):
    """What an artifact is."""

    UNKNOWN = auto()
    ADAPTER = auto()
    MODEL = auto()
    CHECKPOINT = auto()


class DependencyCondition(StrEnum):
    """How a job that another comes after must have ended."""

    UNKNOWN = auto()
    OK = auto()
    ANY = auto()


class FinishReason(StrEnum):
    """What ended an answer."""

    UNKNOWN = auto()
    STOP = auto()
    LENGTH = auto()
