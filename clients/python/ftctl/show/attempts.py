"""Attempts of a job: how each ended, what it needed against what was reserved, and what was changed for the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.text import NOTHING, duration, size

if TYPE_CHECKING:
    from ftclient.results import Attempt

# So much of a GPU's UUID as tells it from the others.
SHORT_ID = 12
_HEADERS = ["#", "DEVICES", "TOOK", "STEP", "PEAK", "RESERVED", "OUTCOME"]


def table(attempts: Sequence[Attempt], labels: Mapping[str, str] | None = None) -> None:
    """All attempts; `labels` are names of devices for people, by their ids."""
    output.section("Attempts")
    before: list[Attempt | None] = [None, *(early for early, _ in pairwise(attempts))]
    rows = [_row(attempt, labels or {}) for attempt in attempts]
    notes = [["; ".join(_settings(attempt, early)) or NOTHING] for attempt, early in zip(attempts, before, strict=True)]
    output.noted(_HEADERS, rows, notes, names=["RAN WITH"], right=(0, 2, 3, 4, 5), cut=1)


def _row(attempt: Attempt, labels: Mapping[str, str]) -> list[str]:
    took = (attempt.end_time or datetime.now(UTC)) - attempt.start_time
    cause = attempt.failure.failure_class if attempt.failure else None
    return [
        str(attempt.number),
        ", ".join(labels.get(device, device[:SHORT_ID]) for device in attempt.devices),
        duration(took.total_seconds()),
        f"{attempt.step_seconds:.2f} s" if attempt.step_seconds else NOTHING,
        size(attempt.peak_memory_bytes) if attempt.peak_memory_bytes else NOTHING,
        size(attempt.reserved_bytes),
        str(cause or attempt.outcome or "running").replace("_", " "),
    ]


def _settings(attempt: Attempt, before: Attempt | None) -> list[str]:
    """What tells it from the attempt before it."""
    found = ["a trial"] if attempt.probe else []
    if attempt.micro_batch:
        changed = before is not None and before.micro_batch not in (0, attempt.micro_batch)
        was = f" instead of {before.micro_batch}" if before and changed else ""
        found.append(f"micro-batch {attempt.micro_batch}{was}")
    if attempt.gradient_checkpointing:
        found.append("recomputation" + (" from now on" if before and not before.gradient_checkpointing else ""))
    if attempt.resumed_from:
        found.append(f"from {attempt.resumed_from}")
    if attempt.checkpoint:
        found.append(f"left {attempt.checkpoint}")
    return found
