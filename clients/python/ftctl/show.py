"""Records as text for people: one function for each kind of thing a command shows. Prints, and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.output import Format
from ftctl.text import NOTHING, age, clock, duration, number, size

if TYPE_CHECKING:
    from ftclient import Job, Plan
    from ftclient.host import Device, Host, QueuedJob
    from ftclient.results import Artifact, Attempt, DataReport, MemoryEstimate, Reason

_CSV = ("id", "name", "project", "state", "phase", "step", "total_steps", "loss", "priority", "create_time")


def jobs(found: Sequence[Job], form: Format) -> None:
    """A table of jobs; wide adds where and why, CSV has plain numbers."""
    if form is Format.CSV:
        output.csv(_CSV, (_csv_row(job) for job in found))
        return
    now = datetime.now(UTC)
    headers = ["ID", "NAME", "STATE", "PROGRESS", "LOSS", "ETA", "AGE"]
    rows = [_row(job, now) for job in found]
    if form is Format.WIDE:
        headers += ["PROJECT", "PRIORITY", "LABELS", "REASON"]
        rows = [[*row, *_wide(job)] for row, job in zip(rows, found, strict=True)]
    output.table(headers, rows, right=(4, 5, 6))


def job(found: Job, artifacts: Sequence[Artifact]) -> None:
    """Everything known of one job, in sections."""
    _facts(found)
    if found.transitions:
        _section("History")
        rows = [
            [clock(move.time), move.to_state, move.actor, move.reason.message if move.reason else ""]
            for move in found.transitions
        ]
        output.table(["TIME", "STATE", "BY", "WHY"], rows)
    if found.attempts:
        _section("Attempts")
        rows = [_attempt(attempt) for attempt in found.attempts]
        output.table(["#", "DEVICES", "TOOK", "OUTCOME", "FROM", "LEFT", "PEAK", "RESERVED"], rows)
    if found.estimate:
        output.line()
        estimate(found.estimate)
    if found.data:
        data(found.data)
    if artifacts:
        _section("Artifacts")
        output.table(["NAME", "KIND", "STEP", "SIZE", "PATH"], [_artifact(artifact) for artifact in artifacts])
    if found.resolved:
        from ftclient.fields import plain

        _section("Spec as run")
        output.yaml(plain(found.resolved))


def _facts(found: Job) -> None:
    progress, failure = found.progress, found.failure
    _fields(
        ("Job", f"{found.id}  {found.name}"),
        ("State", f"{found.state}{_because(found.reason)}"),
        ("Project", found.project),
        ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(found.labels.items()))),
        ("Priority", str(found.priority)),
        ("Created", clock(found.create_time)),
        ("Started", clock(found.start_time) if found.start_time else ""),
        ("Ended", clock(found.end_time) if found.end_time else ""),
        ("Progress", f"{_progress(found)}, epoch {number(progress.epoch)}" if progress and progress.step else ""),
        ("Loss", number(progress.loss) if progress and progress.loss is not None else ""),
        ("Failure", f"{failure.failure_class}: {failure.message}" if failure else ""),
        ("Advice", failure.advice if failure else ""),
        ("Run directory", found.run_directory),
        ("Output", found.output_path),
    )


def plan(planned: Plan) -> None:
    """What submitting would do."""
    if planned.estimate:
        estimate(planned.estimate)
        output.line()
    where = ", ".join(planned.devices)
    _fields(
        ("Starts", f"at once, on {where}" if where else f"later{_because(planned.wait_reason)}"),
        ("Spec", "valid; -o yaml shows it with every default spelled out"),
    )


def estimate(found: MemoryEstimate) -> None:
    """Memory per device, term by term."""
    output.line("Memory per device")
    rows = [[term.name, size(term.bytes), term.note] for term in found.terms]
    share = f"± {found.uncertainty:.0%}" if found.uncertainty else ""
    rows.append(["peak", size(found.peak_bytes), " ".join(part for part in (found.peak_moment, share) if part)])
    rows.append(["reserved", size(found.reserve_bytes), found.basis])
    output.table(["TERM", "SIZE", "NOTE"], rows, right=(1,))


def data(report: DataReport) -> None:
    """What the preparation found."""
    _section("Data")
    rows = [
        [name, str(split.rows), str(split.tokens), str(split.trained_tokens), str(split.longest_row_tokens)]
        for name, split in (("train", report.train), ("eval", report.eval))
        if split is not None
    ]
    output.table(["SPLIT", "ROWS", "TOKENS", "TRAINED", "LONGEST"], rows, right=(1, 2, 3, 4))
    sources = [
        [source.path, str(source.format or NOTHING), str(source.rows_used), str(source.rows_dropped)]
        for source in report.sources
    ]
    output.table(["SOURCE", "FORMAT", "USED", "DROPPED"], sources, right=(2, 3))


def devices(host: Host) -> None:
    """The devices, then who is on them."""
    rows = [_device(device) for device in host.devices]
    output.table(["DEVICE", "NAME", "USED", "RESERVED", "TOTAL", "BUSY", "TEMP"], rows, right=(2, 3, 4, 5, 6))
    uses = [
        [
            _short(device),
            use.job or "(not ours)",
            str(use.pid or NOTHING),
            use.process_name or NOTHING,
            size(use.used_bytes),
            size(use.reserved_bytes) if use.reserved_bytes else NOTHING,
        ]
        for device in host.devices
        for use in device.uses
    ]
    if uses:
        output.line()
        output.table(["DEVICE", "JOB", "PID", "PROCESS", "USED", "RESERVED"], uses, right=(2, 4, 5))


def queue(waiting: Iterable[QueuedJob]) -> None:
    """Jobs that wait, and why."""
    now = datetime.now(UTC)
    rows = [
        [
            str(job.position),
            job.job,
            job.name,
            str(job.priority),
            age(job.queue_time, now),
            f"{job.devices} x {size(job.bytes_per_device)}",
            job.reason.message if job.reason else "",
        ]
        for job in waiting
    ]
    output.table(["#", "ID", "NAME", "PRIORITY", "WAITS", "ASKS", "WHY"], rows, right=(0, 3, 4))


def _row(job: Job, now: datetime) -> list[str]:
    progress = job.progress
    running = progress is not None and not job.state.finished
    return [
        job.id,
        job.name,
        job.state,
        _progress(job),
        number(progress.loss) if progress else NOTHING,
        duration(progress.eta_seconds) if progress and running else NOTHING,
        age(job.create_time, now),
    ]


def _wide(job: Job) -> list[str]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    return [job.project, str(job.priority), labels or NOTHING, job.reason.message if job.reason else NOTHING]


def _csv_row(job: Job) -> list[object]:
    progress = job.progress
    known = (progress.phase, progress.step, progress.total_steps, progress.loss) if progress else (None,) * 4
    return [job.id, job.name, job.project, job.state, *known, job.priority, job.create_time.isoformat()]


def _progress(job: Job) -> str:
    progress = job.progress
    if progress is None or not progress.total_steps:
        return (
            str(progress.phase).replace("_", " ") if progress and progress.phase and not job.state.finished else NOTHING
        )
    return f"{progress.step}/{progress.total_steps} ({progress.step / progress.total_steps:.0%})"


def _attempt(attempt: Attempt) -> list[str]:
    took = (attempt.end_time or datetime.now(UTC)) - attempt.start_time
    return [
        str(attempt.number),
        ", ".join(attempt.devices),
        duration(took.total_seconds()),
        str(attempt.outcome or "running"),
        attempt.resumed_from or NOTHING,
        attempt.checkpoint or NOTHING,
        size(attempt.peak_memory_bytes) if attempt.peak_memory_bytes else NOTHING,
        size(attempt.reserved_bytes),
    ]


def _artifact(artifact: Artifact) -> list[str]:
    return [artifact.name, str(artifact.kind or NOTHING), str(artifact.step), size(artifact.bytes), artifact.path]


def _device(device: Device) -> list[str]:
    busy, heat = device.utilization_percent, device.temperature_celsius
    return [
        _short(device),
        device.name,
        size(device.used_bytes),
        size(device.reserved_bytes),
        size(device.total_bytes),
        NOTHING if busy is None else f"{busy}%",
        NOTHING if heat is None else f"{heat}°C",
    ]


def _short(device: Device) -> str:
    return "cpu" if device.kind == "cpu" else f"gpu {device.index}"


def _because(reason: Reason | None) -> str:
    return f": {reason.message}" if reason and reason.message else ""


def _fields(*pairs: tuple[str, str]) -> None:
    for name, value in pairs:
        if value:
            output.line(f"{name + ':':<15}{value}")


def _section(title: str) -> None:
    output.line()
    output.line(title)
