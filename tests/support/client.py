"""Messages as a daemon would send them, for the clients' tests: a small training and what it says on its way."""

from __future__ import annotations

from finetuned.v1 import event_pb2, job_pb2

# 2026-01-02 03:04:05 UTC
START = 1767323045


def job(state: str = "RUNNING", *, step: int = 4, total: int = 10, **fields: object) -> job_pb2.Job:
    """A LoRA training in the given state, `step` of `total` updates done."""
    made = job_pb2.Job(
        id="k7m2p9x4qd", name="support-v3", project="default", state=job_pb2.JobState.Value(f"JOB_STATE_{state}")
    )
    made.labels["team"] = "cx"
    made.reason.code = job_pb2.REASON_CODE_STARTED
    made.reason.message = "training"
    made.create_time.seconds = START
    made.update_time.seconds = START + 60
    made.start_time.seconds = START + 10
    made.estimate.peak_bytes = 1_500_000_000
    made.estimate.reserve_bytes = 2_000_000_000
    made.spec.name = "support-v3"
    made.spec.training.model.path = "/models/smol"
    progress = made.progress
    progress.phase = event_pb2.PHASE_TRAINING
    progress.step, progress.total_steps, progress.epoch = step, total, 3 * step / total
    progress.loss, progress.learning_rate = 2.0 - 0.1 * step, 1e-4
    progress.tokens_per_second, progress.eta_seconds = 142.0, 58.0
    progress.peak_memory_bytes = 1_200_000_000
    made.MergeFrom(job_pb2.Job(**fields))  # type: ignore[arg-type]
    return made


def training_events(steps: int) -> list[event_pb2.TrainingEvent]:
    """What a whole training reports: start, `steps` updates, an evaluation, a checkpoint, the end."""
    kinds = [
        event_pb2.TrainingEvent(started=event_pb2.AttemptStarted(total_steps=steps, world_size=1)),
        *(event_pb2.TrainingEvent(step=_step(number)) for number in range(1, steps + 1)),
        event_pb2.TrainingEvent(evaluation=event_pb2.EvaluationMetrics(step=steps, epoch=3, loss=1.25, seconds=2)),
        event_pb2.TrainingEvent(checkpoint=event_pb2.CheckpointSaved(step=steps, name=f"checkpoint-{steps}")),
        event_pb2.TrainingEvent(ended=event_pb2.AttemptEnded(outcome=event_pb2.OUTCOME_COMPLETED)),
    ]
    for offset, event in enumerate(kinds):
        event.time.seconds, event.attempt = START + 10 + offset, 1
    return kinds


def log_lines(count: int) -> list[event_pb2.LogLine]:
    """Lines of the only rank."""
    lines = [event_pb2.LogLine(attempt=1, rank=0, text=f"line {number}") for number in range(1, count + 1)]
    for offset, line in enumerate(lines):
        line.time.seconds = START + offset
    return lines


def _step(number: int) -> event_pb2.StepMetrics:
    return event_pb2.StepMetrics(
        step=number,
        epoch=number / 4,
        loss=2.0 - 0.1 * number,
        learning_rate=1e-4,
        grad_norm=0.5,
        tokens=number * 100,
        tokens_per_second=142.5,
        step_seconds=0.7,
        peak_memory_bytes=1_200_000_000,
    )
