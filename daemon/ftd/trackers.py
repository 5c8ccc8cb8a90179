"""Who else is told a job's metrics: frozen dataclasses that mirror the messages of tracker.proto field by field.

Defaults stand in proto/finetuned/v1/tracker.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto


@dataclass(frozen=True, slots=True)
class Tensorboard:
    """Event files."""

    directory: str | None = None


@dataclass(frozen=True, slots=True)
class Wandb:
    """Weights & Biases."""

    project: str | None = None
    entity: str | None = None
    base_url: str | None = None
    offline: bool | None = None
    api_key_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Mlflow:
    """An MLflow tracking server."""

    tracking_uri: str | None = None
    experiment: str | None = None
    token_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Trackio:
    """Trackio's local table."""

    project: str | None = None


Kind = Tensorboard | Wandb | Mlflow | Trackio


@dataclass(frozen=True, slots=True)
class Tracker:
    """A service or tool that is told a job's metrics."""

    kind: Kind | None = None


class TrackerState(StrEnum):
    """What a tracker is doing."""

    FOLLOWING = auto()
    DONE = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class TrackerStatus:
    """How far a tracker of a job is. `time` is in seconds since the epoch."""

    name: str
    state: TrackerState
    message: str
    seq: int
    time: float


def secret_of(kind: Kind) -> str | None:
    """Name of the secret that it is given."""
    match kind:
        case Wandb():
            return kind.api_key_secret
        case Mlflow():
            return kind.token_secret
        case _:
            return None
