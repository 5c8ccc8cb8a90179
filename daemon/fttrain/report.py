"""What a rank tells the world: one TrainingEvent per call, appended to the job's journal.

Only rank 0 writes; the other ranks hold a silent Report, so recipes never ask who they are. It must never block on a
reader or on the disk: a record is one write(2), and the keeper syncs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from finetuned.v1 import data_report_pb2, event_pb2
from fttrain.journal import JournalWriter

Follower = Callable[[event_pb2.TrainingEvent], None]


class Report:
    """Writes the events of one attempt. Methods raise OSError when the journal cannot be written.

    Of a trial only phases and notices are written: its updates are not the job's.
    """

    def __init__(self, journal: JournalWriter | None, attempt: int, *, trial: bool = False) -> None:
        self._journal = journal
        self._attempt = attempt
        self.trial = trial
        # How long an update of the job takes for one that is reported.
        self.share = 1.0
        # What the rank's last word repeats.
        self.last_checkpoint = ""
        self.peak_memory_bytes = 0
        # The checkpoint of another job that this attempt goes on from.
        self.joined: event_pb2.Join | None = None
        self._step_seconds: list[float] = []
        self._followers: list[Follower] = []

    def follow(self, follower: Follower) -> None:
        """Hands every event that is written to `follower` as well, from here on."""
        self._followers.append(follower)

    @property
    def step_seconds(self) -> float:
        """Mean over the updates, 0 without any. The first one also warms libraries and caches up: it counts alone."""
        counted = self._step_seconds[1:] or self._step_seconds
        return statistics.fmean(counted) * self.share if counted else 0.0

    def phase(self, phase: event_pb2.Phase.ValueType, fraction: float | None = None) -> None:
        """The job is busy with `phase`, of which `fraction` (0 to 1) is done where that is known."""
        self._append(phase=event_pb2.PhaseChanged(phase=phase, fraction=fraction))

    def started(self, started: event_pb2.AttemptStarted) -> None:
        """The training loop is about to run its first step."""
        if self.joined is not None:
            started.joined.CopyFrom(self.joined)
        self._append(started=started)

    def step(self, metrics: event_pb2.StepMetrics) -> None:
        """One optimizer update is done."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, metrics.peak_memory_bytes)
        self._step_seconds.append(metrics.step_seconds)
        self._append(step=metrics)

    def evaluation(self, metrics: event_pb2.EvaluationMetrics) -> None:
        """One pass over the evaluation rows is done."""
        self._append(evaluation=metrics)

    def answers(self, answers: event_pb2.GeneratedAnswers) -> None:
        """The model has answered evaluation rows."""
        self._append(answers=answers)

    def checkpoint(self, saved: event_pb2.CheckpointSaved) -> None:
        """A checkpoint with its manifest is complete on disk."""
        self.last_checkpoint = saved.name
        self._append(checkpoint=saved)

    def data(self, report: data_report_pb2.DataReport) -> None:
        """The preparation is done."""
        self._append(data=report)

    def notice(self, text: str) -> None:
        """Something a person should know and nobody has to act on."""
        self._append(notice=event_pb2.Notice(text=text))

    def _append(self, **kind: Any) -> None:
        if self._journal is None or (self.trial and not kind.keys() & {"phase", "notice"}):
            return
        event = event_pb2.TrainingEvent(attempt=self._attempt, **kind)
        event.time.FromNanoseconds(time.time_ns())
        self._journal.append(event)
        for follower in self._followers:
            follower(event)
