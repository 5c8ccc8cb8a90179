"""Folding a journal's records into where a job is now. Pure, and the only reader of events in the daemon.

Streams relay the same bytes without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError

from finetuned.v1 import event_pb2, metric_service_pb2
from ftd.journal import JournalCorrupt, Run
from ftd.records import Phase, Progress

# Weight of the newest step in the mean step time.
_NEWEST = 0.1
_PHASES = {event_pb2.Phase.Value(f"PHASE_{phase.name}"): phase for phase in Phase}


def fold(progress: Progress, run: Run) -> Progress:
    """The progress after a run of records, which must begin right after `progress.last_seq`. Raises JournalCorrupt."""
    for event in _events(run):
        progress = _fold_event(progress, event)
    return replace(progress, last_seq=run.last_seq)


def started(run: Run, attempt: int) -> bool:
    """Whether a trainer of this attempt says something in these records; the keeper's last word does not count.

    Raises JournalCorrupt.
    """
    return any(event.attempt == attempt and event.WhichOneof("kind") != "ended" for event in _events(run))


def _events(run: Run) -> Sequence[event_pb2.TrainingEvent]:
    # A job can write what it likes to its journal, checksum and all.
    try:
        return metric_service_pb2.StreamMetricsResponse.FromString(run.data).events
    except DecodeError as error:
        raise JournalCorrupt(f"records from {run.first_seq} on are no events") from error


def _fold_event(progress: Progress, event: event_pb2.TrainingEvent) -> Progress:
    match event.WhichOneof("kind"):
        case "step":
            return _fold_step(progress, event.step)
        case "phase":
            share = event.phase.fraction if event.phase.HasField("fraction") else None
            return replace(progress, phase=_PHASES.get(event.phase.phase), phase_fraction=share)
        case "started":
            # Steps of an earlier attempt after its last checkpoint are done again, in new processes.
            done_again = (progress.best_step or 0) > event.started.first_step
            return replace(
                progress,
                step=event.started.first_step,
                total_steps=event.started.total_steps,
                eta_seconds=None,
                peak_memory_bytes=0,
                best_step=None if done_again else progress.best_step,
                best_value=None if done_again else progress.best_value,
            )
        case "evaluation":
            found = replace(progress, eval_loss=event.evaluation.loss)
            if not event.evaluation.best:
                return found
            return replace(found, best_step=event.evaluation.step, best_value=event.evaluation.value)
        case "ended":
            peak = max(progress.peak_memory_bytes, event.ended.peak_memory_bytes)
            return replace(progress, phase=None, phase_fraction=None, eta_seconds=None, peak_memory_bytes=peak)
        case _:
            return progress


def _fold_step(progress: Progress, step: event_pb2.StepMetrics) -> Progress:
    return replace(
        progress,
        step=step.step,
        epoch=step.epoch,
        loss=step.loss,
        learning_rate=step.learning_rate,
        tokens_per_second=step.tokens_per_second,
        eta_seconds=_eta(progress, step),
        peak_memory_bytes=max(progress.peak_memory_bytes, step.peak_memory_bytes),
    )


def _eta(progress: Progress, step: event_pb2.StepMetrics) -> float | None:
    """Seconds left: steps left times the mean step time, which is told from the ETA before."""
    before = progress.total_steps - progress.step
    left = progress.total_steps - step.step
    if left < 0 or not progress.total_steps:
        return None
    pace = step.step_seconds
    if progress.eta_seconds is not None and before > 0:
        pace = (1 - _NEWEST) * progress.eta_seconds / before + _NEWEST * pace
    return left * pace
