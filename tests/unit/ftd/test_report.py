"""Folding events into progress."""

from __future__ import annotations

import math

import pytest

from finetuned.v1 import event_pb2, metric_service_pb2
from ftd.journal import Run
from ftd.records import Phase, Progress
from ftd.report import fold, started


def run(*events: event_pb2.TrainingEvent, first_seq: int = 1) -> Run:
    data = metric_service_pb2.StreamMetricsResponse(events=events).SerializeToString()
    return Run(data, first_seq, len(events), at_end=True)


def begin(first: int = 0, total: int = 100, attempt: int = 1) -> event_pb2.TrainingEvent:
    started = event_pb2.AttemptStarted(first_step=first, total_steps=total)
    return event_pb2.TrainingEvent(attempt=attempt, started=started)


def step(number: int, seconds: float = 2.0, *, loss: float = 1.5, peak: int = 7) -> event_pb2.TrainingEvent:
    metrics = event_pb2.StepMetrics(
        step=number,
        epoch=number / 10,
        loss=loss,
        learning_rate=0.25,
        tokens_per_second=50,
        step_seconds=seconds,
        peak_memory_bytes=peak,
    )
    return event_pb2.TrainingEvent(attempt=1, step=metrics)


def phase(number: event_pb2.Phase.ValueType) -> event_pb2.TrainingEvent:
    return event_pb2.TrainingEvent(attempt=1, phase=event_pb2.PhaseChanged(phase=number))


def test_a_training() -> None:
    evaluation = event_pb2.TrainingEvent(attempt=1, evaluation=event_pb2.EvaluationMetrics(loss=0.5))
    progress = fold(Progress(), run(phase(event_pb2.PHASE_TRAINING), begin(), step(1), evaluation))
    assert progress == Progress(Phase.TRAINING, 1, 100, 0.1, 1.5, 0.5, 0.25, 50.0, 198.0, 7, 4)
    ended = event_pb2.TrainingEvent(attempt=1, ended=event_pb2.AttemptEnded(peak_memory_bytes=9))
    progress = fold(progress, run(ended, first_seq=5))
    assert (progress.phase, progress.eta_seconds, progress.peak_memory_bytes, progress.last_seq) == (None, None, 9, 5)


def test_one_run_or_many_are_the_same() -> None:
    events = [begin(), *(step(number, seconds=number) for number in range(1, 50))]
    one = fold(Progress(), run(*events))
    many = Progress()
    for seq, event in enumerate(events, start=1):
        many = fold(many, run(event, first_seq=seq))
    assert one == many


def test_eta_follows_the_mean_step_and_not_the_last() -> None:
    events = [begin(), *(step(number, seconds=1.0) for number in range(1, 50)), step(50, seconds=11.0)]
    assert fold(Progress(), run(*events)).eta_seconds == pytest.approx(50 * 2.0)


def test_eta_ends_at_zero_and_is_unknown_without_a_total() -> None:
    assert fold(Progress(), run(begin(total=1), step(1))).eta_seconds == 0.0
    assert fold(Progress(), run(step(1))).eta_seconds is None


def test_a_resumed_attempt_goes_back_to_its_checkpoint() -> None:
    progress = fold(Progress(), run(begin(), step(30, peak=50), begin(first=20, attempt=2)))
    assert (progress.step, progress.eta_seconds, progress.peak_memory_bytes) == (20, None, 0)
    assert fold(progress, run(step(21), first_seq=4)).eta_seconds == 79 * 2.0


def test_a_loss_that_is_no_number_is_kept() -> None:
    loss = fold(Progress(), run(step(1, loss=math.nan))).loss
    assert loss is not None
    assert math.isnan(loss)


def test_what_is_not_known_is_skipped() -> None:
    unknown = event_pb2.TrainingEvent.FromString(b"\xa2\x06\x01x")
    progress = fold(Progress(phase=Phase.TRAINING), run(unknown, first_seq=8))
    assert progress == Progress(phase=Phase.TRAINING, last_seq=8)
    assert fold(progress, run(phase(99), first_seq=9)).phase is None  # type: ignore[arg-type]


def test_the_first_word() -> None:
    ended = event_pb2.TrainingEvent(attempt=1, ended=event_pb2.AttemptEnded())
    assert not started(run(ended), 1)
    assert not started(run(begin(attempt=1)), 2)
    assert started(run(ended, begin(attempt=2)), 2)
