"""trainer_log.jsonl: the progress of a job as the tools around LLaMA-Factory read it, a line an update or evaluation.

It repeats what the journal has, for those who cannot read that. It must never be read back by us.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from finetuned.v1 import event_pb2
from fttrain.files import write_atomically

NAME = "trainer_log.jsonl"


class TrainerLog:
    """Writes the file at `path`, from the events that a report hands it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._first_step = 0
        self._total_steps = 0

    def take(self, event: event_pb2.TrainingEvent) -> None:
        """Adds what an event says of the training's progress. Raises OSError."""
        match event.WhichOneof("kind"):
            case "started":
                self._begin(event.started)
            case "step":
                self._add(event.step, _of_step(event.step))
            case "evaluation":
                self._add(event.evaluation, {"eval_loss": event.evaluation.loss})

    def _begin(self, started: event_pb2.AttemptStarted) -> None:
        self._started = time.monotonic()
        self._first_step, self._total_steps = started.first_step, started.total_steps
        # What a former attempt did beyond its checkpoint is done again.
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines if json.loads(line)["current_steps"] <= self._first_step]
        write_atomically(self._path, "".join(kept).encode())

    def _add(self, metrics: event_pb2.StepMetrics | event_pb2.EvaluationMetrics, figures: dict[str, Any]) -> None:
        elapsed = time.monotonic() - self._started
        done, left = metrics.step - self._first_step, self._total_steps - metrics.step
        line = {
            "current_steps": metrics.step,
            "total_steps": self._total_steps,
            **figures,
            "epoch": metrics.epoch,
            "percentage": round(100 * metrics.step / self._total_steps, 2),
            "elapsed_time": _clock(elapsed),
            "remaining_time": _clock(elapsed / done * left if done else 0.0),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _of_step(step: event_pb2.StepMetrics) -> dict[str, Any]:
    figures = {
        "loss": step.loss,
        "accuracy": step.extra.get("rewards/accuracies", step.extra.get("accuracy")),
        "reward": step.extra.get("reward"),
        "lr": step.learning_rate,
        "throughput": round(step.tokens_per_second, 2),
        "total_tokens": step.tokens,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _clock(seconds: float) -> str:
    """H:MM:SS."""
    return str(timedelta(seconds=int(seconds)))
