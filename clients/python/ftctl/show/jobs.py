"""Jobs: a table of many, and everything known of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftctl import facts, output
from ftctl.output import Format
from ftctl.show import attempts, memory
from ftctl.text import NOTHING, age, because, clock, duration, number, size

if TYPE_CHECKING:
    from finetuned.v1.job_pb2 import JobSpec
    from ftclient import Job
    from ftclient.results import DataReport, Dependency, Lineage, TrackerStatus
    from ftclient.stored import Artifact

# So much of a digest as tells it from the others.
_DIGEST = 12
RIGHT = (4, 5, 6)
CSV = ("id", "name", "project", "state", "phase", "step", "total_steps", "loss", "priority", "create_time")


def jobs(found: Sequence[Job], form: Format) -> None:
    """A table of jobs; wide adds where and why, CSV has plain numbers."""
    if form is Format.CSV:
        output.csv(CSV, map(csv_row, found))
    else:
        headers, rows = columns(found, form)
        output.table(headers, rows, right=RIGHT)


def columns(found: Sequence[Job], form: Format) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the table; those in the columns RIGHT are numbers."""
    now = datetime.now(UTC)
    headers = ["ID", "NAME", "STATE", "PROGRESS", "LOSS", "ETA", "AGE"]
    rows = [_row(job, now) for job in found]
    if form is Format.WIDE:
        headers += ["PROJECT", "PRIORITY", "LABELS", "REASON"]
        rows = [[*row, *_wide(job)] for row, job in zip(rows, found, strict=True)]
    return headers, rows


def job(found: Job, artifacts: Sequence[Artifact]) -> None:
    """Everything known of one job, in sections."""
    _facts(found)
    if found.transitions:
        output.section("History")
        rows = [
            [clock(move.time), move.to_state, move.actor, move.reason.message if move.reason else ""]
            for move in found.transitions
        ]
        output.table(["TIME", "STATE", "BY", "WHY"], rows)
    if found.attempts:
        attempts.table(found.attempts)
    if found.estimate:
        memory.table(found.estimate, facts.peak(found), resident=facts.on_cpu(found))
    if found.data:
        data(found.data)
    if found.lineage:
        lineage(found.lineage)
    if artifacts:
        output.section("Artifacts")
        output.table(["NAME", "KIND", "STEP", "SIZE", "PATH"], [_artifact(artifact) for artifact in artifacts])
    if found.resolved:
        from ftclient.fields import plain

        output.section("Spec as run")
        output.yaml(plain(found.resolved))


def _facts(found: Job) -> None:
    progress, failure = found.progress, found.failure
    output.fields(
        ("Job", f"{found.id}  {found.name}"),
        ("State", f"{found.state}{because(found.reason)}"),
        ("Project", found.project),
        ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(found.labels.items()))),
        ("Annotations", ", ".join(f"{key}={value}" for key, value in sorted(found.annotations.items()))),
        ("Trace", found.traceparent),
        ("Priority", f"{found.priority}, moved to the front" if found.front else str(found.priority)),
        ("After", ", ".join(_dependency(each) for each in found.dependencies)),
        *_wishes(found.spec),
        ("Created", clock(found.create_time)),
        ("Started", clock(found.start_time) if found.start_time else ""),
        ("Ended", clock(found.end_time) if found.end_time else ""),
        ("Progress", f"{progress_of(found)}, epoch {number(progress.epoch)}" if progress and progress.step else ""),
        ("Loss", number(progress.loss) if progress and progress.loss is not None else ""),
        ("Evaluation", _evaluation(found)),
        ("Failure", f"{failure.failure_class}: {failure.message}" if failure else ""),
        ("Advice", failure.advice if failure else ""),
        ("Run directory", found.run_directory),
        ("Output", found.output_path),
        *((f"Tracker {each.name}", _tracker(each, found)) for each in found.trackers),
    )


def _tracker(each: TrackerStatus, job: Job) -> str:
    """How far a tracker is, and where its run is to be seen or why it failed."""
    last = job.progress.last_seq if job.progress else 0
    behind = f", {last - each.seq} events behind since {clock(each.time)}" if last > each.seq else ""
    return f"{each.state}{behind}{f': {each.message}' if each.message else ''}"


def _evaluation(found: Job) -> str:
    """The last evaluation's loss, and the best evaluation."""
    progress, resolved = found.progress, found.resolved
    if progress is None or progress.eval_loss is None:
        return ""
    loss = f"loss {number(progress.eval_loss)}"
    if progress.best_step is None or progress.best_value is None or resolved is None:
        return loss
    return f"{loss}; best {resolved.evaluation.metric} {number(progress.best_value)} at step {progress.best_step}"


def _wishes(spec: JobSpec | None) -> list[tuple[str, str]]:
    """What was asked for about when and how it runs; nothing of what was left to the daemon."""
    from ftclient.fields import plain

    asked = plain(spec) if spec else {}
    times = [(name, getattr(spec, name).ToDatetime(UTC)) for name in ("not_before", "deadline") if name in asked]
    return [
        *((name.capitalize().replace("_", " "), clock(time)) for name, time in times),
        ("Probe", asked.get("probe", "")),
        ("Preemptible", "" if asked.get("preemptible", True) else "no"),
    ]


def _dependency(each: Dependency) -> str:
    return f"{each.job} (however it ends)" if each.condition == "any" else each.job


def data(report: DataReport) -> None:
    """What the preparation found."""
    output.section("Data")
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
    for remark in report.remarks:
        output.line(f"note: {remark}")


def lineage(found: Lineage) -> None:
    """Where its weights come from."""
    output.section("Lineage")
    at = f" at {found.base_revision}" if found.base_revision else ""
    rows = [["base model", f"{found.base_model}{at}", found.base_digest[:_DIGEST]]]
    for each in found.ancestors:
        made = f"job {each.job}, step {each.step}" if each.job else each.path
        rows.append([each.field, made, each.digest[:_DIGEST]])
    rows.append(["prepared rows", "", found.data_digest[:_DIGEST]])
    output.table(["WHAT", "FROM", "SHA-256"], rows)


def _row(job: Job, now: datetime) -> list[str]:
    progress = job.progress
    running = progress is not None and not job.state.finished
    return [
        job.id,
        job.name,
        job.state,
        progress_of(job),
        number(progress.loss) if progress else NOTHING,
        duration(progress.eta_seconds) if progress and running else NOTHING,
        age(job.create_time, now),
    ]


def _wide(job: Job) -> list[str]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    return [job.project, str(job.priority), labels or NOTHING, job.reason.message if job.reason else NOTHING]


def csv_row(job: Job) -> list[object]:
    """The cells of CSV."""
    progress = job.progress
    known = (progress.phase, progress.step, progress.total_steps, progress.loss) if progress else (None,) * 4
    return [job.id, job.name, job.project, job.state, *known, job.priority, job.create_time.isoformat()]


def progress_of(job: Job) -> str:
    """How far it is: 120/400 (30%), or its phase."""
    progress = job.progress
    if progress is None or not progress.total_steps:
        return (
            str(progress.phase).replace("_", " ") if progress and progress.phase and not job.state.finished else NOTHING
        )
    return f"{progress.step}/{progress.total_steps} ({progress.step / progress.total_steps:.0%})"


def _artifact(artifact: Artifact) -> list[str]:
    return [artifact.name, str(artifact.kind or NOTHING), str(artifact.step), size(artifact.bytes), artifact.path]
