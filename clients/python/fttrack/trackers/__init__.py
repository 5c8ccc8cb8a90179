"""The trackers by the name of their field in the contract; to add one is to add a file and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fttrack.run import Run, Tracker
from fttrack.trackers.mlflow import Mlflow
from fttrack.trackers.tensorboard import TensorBoard
from fttrack.trackers.trackio import Trackio
from fttrack.trackers.wandb import Wandb

__all__ = ["KINDS"]

KINDS: dict[str, Callable[[Run, Mapping[str, Any], str], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}
