"""The file that other tools read, written from events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetuned.v1 import event_pb2
from fttrain.trainer_log import TrainerLog


def started(first: int, total: int = 4) -> event_pb2.TrainingEvent:
    return event_pb2.TrainingEvent(started=event_pb2.AttemptStarted(first_step=first, total_steps=total))


def step(number: int, **extra: float) -> event_pb2.TrainingEvent:
    metrics = event_pb2.StepMetrics(
        step=number, epoch=number / 2, loss=2.5, learning_rate=1e-4, tokens=100 * number, tokens_per_second=50.125
    )
    metrics.extra.update(extra)
    return event_pb2.TrainingEvent(step=metrics)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_update_and_an_evaluation_are_a_line_each(tmp_path: Path) -> None:
    log = TrainerLog(tmp_path / "trainer_log.jsonl")
    log.take(started(0))
    log.take(step(1, **{"rewards/accuracies": 0.75}))
    log.take(event_pb2.TrainingEvent(notice=event_pb2.Notice(text="hello")))
    log.take(event_pb2.TrainingEvent(evaluation=event_pb2.EvaluationMetrics(step=1, epoch=0.5, loss=1.5)))

    update, evaluation = lines(tmp_path / "trainer_log.jsonl")
    clock = {"elapsed_time": "0:00:00", "remaining_time": "0:00:00"}
    where = {"current_steps": 1, "total_steps": 4, "epoch": 0.5, "percentage": 25.0}
    figures = {"loss": 2.5, "accuracy": 0.75, "lr": 1e-4, "throughput": 50.12, "total_tokens": 100}
    assert update == {**where, **figures, **clock}
    assert evaluation == {**where, "eval_loss": 1.5, **clock}


def test_what_is_done_again_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "trainer_log.jsonl"
    for first in (0, 1):
        log = TrainerLog(path)
        log.take(started(first))
        for number in range(first + 1, 4):
            log.take(step(number))
    assert [line["current_steps"] for line in lines(path)] == [1, 2, 3]
