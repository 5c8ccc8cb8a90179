"""What a tracker is: the run it shows, and what it is told. It must never know a tracker by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf import json_format

from ftclient.enums import JobState
from ftclient.events import EvaluationMetrics, Event, StepMetrics
from ftclient.results import Job


@dataclass(frozen=True, slots=True)
class Run:
    """A job as trackers show it."""

    # The job's id: what is told twice under it is told once.
    id: str
    name: str
    project: str
    labels: Mapping[str, str]
    # The resolved training, flat: "lora.rank" to 8.
    config: Mapping[str, Any]
    # For files of the tracker; exists.
    folder: Path

    @staticmethod
    def of(job: Job, folder: Path) -> Run:
        """The run of a job."""
        resolved = json_format.MessageToDict(job.proto.resolved, preserving_proto_field_name=True)
        return Run(job.id, job.name, job.project, job.labels, dict(flat(resolved)), folder)


class Tracker(Protocol):
    """One run at a tracker. Every method may block as long as it likes, and raise whatever its library does."""

    # Where the run is to be seen.
    place: str

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Figures of an update; `time` in seconds since the epoch. Steps come in order, some more than once."""

    def close(self, state: JobState) -> None:
        """The job has ended: nothing comes any more."""


def figures(event: Event) -> tuple[int, dict[str, float]] | None:
    """Step and figures of an event by the names that transformers' own reports have; None if it has none."""
    match event.kind:
        case StepMetrics() as told:
            values = {
                "loss": told.loss,
                "learning_rate": told.learning_rate,
                "epoch": told.epoch,
                "num_tokens": float(told.tokens),
                "tokens_per_second": told.tokens_per_second,
                "peak_memory_bytes": float(told.peak_memory_bytes),
                **told.extra,
            }
            if told.grad_norm is not None:
                values["grad_norm"] = told.grad_norm
            return told.step, {f"train/{name}": value for name, value in values.items()}
        case EvaluationMetrics() as told:
            values = {"loss": told.loss, "runtime": told.seconds, "epoch": told.epoch, **told.extra}
            return told.step, {f"eval/{name}": value for name, value in values.items()}
        case _:
            return None


def flat(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths; lists are leaves of lists, as text otherwise."""
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{path}{name}.") or [(path + name, "")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                found += flat(item, f"{path}{name}.{index}.")
        else:
            found.append((path + name, value))
    return found
