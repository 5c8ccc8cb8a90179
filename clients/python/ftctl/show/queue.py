"""The queue: who waits, for what, for whom and until when; and the projects that share the host."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.output import Format
from ftctl.text import NOTHING, age, duration, forecast, size

if TYPE_CHECKING:
    from ftclient.host import ProjectUse, QueuedJob


def table(waiting: Sequence[QueuedJob], form: Format) -> None:
    """Jobs in the order they are tried; wide adds the project and how long they take."""
    now = datetime.now(UTC)
    headers = ["#", "ID", "NAME", "PRIORITY", "NEEDS", "STARTS", "WAITED"]
    rows = [_row(job, now) for job in waiting]
    if form is Format.WIDE:
        headers += ["PROJECT", "TAKES"]
        rows = [
            [*row, job.project, duration(job.duration.seconds if job.duration else None)]
            for row, job in zip(rows, waiting, strict=True)
        ]
    notes = [[", ".join(job.waits_for) or NOTHING, job.reason.message if job.reason else NOTHING] for job in waiting]
    output.noted(headers, rows, notes, names=["WAITS FOR", "WHY"], right=(0, 3, 6), cut=2)


def projects(found: Sequence[ProjectUse]) -> None:
    """What each project has had of the host beside its due, in device hours, and what it holds of its quota."""
    weights = sum(project.weight for project in found)
    headers = ["PROJECT", "WEIGHT", "DUE", "HAD", "HOURS", "RUNNING", "NOT ENDED", "DEVICES", "MEMORY"]
    output.table(headers, [_project(project, weights) for project in found], right=range(1, len(headers)))


def _row(job: QueuedJob, now: datetime) -> list[str]:
    return [
        str(job.position),
        job.job,
        job.name,
        str(job.priority),
        f"{job.devices} × {size(job.bytes_per_device)}",
        forecast(job.forecast, now),
        age(job.queue_time, now),
    ]


def _project(found: ProjectUse, weights: float) -> list[str]:
    quota = found.quota
    return [
        found.project,
        f"{found.weight:g}",
        f"{found.weight / weights:.0%}" if weights else NOTHING,
        f"{found.usage_share:.0%}",
        f"{found.usage / 3600:.1f}",
        _of(str(found.running_jobs), str(quota.running) if quota and quota.running is not None else ""),
        _of(
            str(found.running_jobs + found.queued_jobs), str(quota.queued) if quota and quota.queued is not None else ""
        ),
        _of(str(found.devices), str(quota.devices) if quota and quota.devices is not None else ""),
        _of(size(found.memory_bytes), size(quota.memory_bytes) if quota and quota.memory_bytes is not None else ""),
    ]


def _of(held: str, limit: str) -> str:
    return f"{held}/{limit}" if limit else held
