"""What `ftctl top` shows: one look at the host, its queue and its jobs, and the rows made of it. No terminal here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from ftclient import Client, Job, JobState
from ftclient.host import Host, QueuedJob
from ftctl import text
from ftctl.show import devices
from ftctl.show.jobs import progress_of

# Ended jobs that are shown.
ENDED = 20
# Columns from left to right, and the width of a terminal from which on each has room.
COLUMNS: Mapping[str, int] = {
    "#": 0,
    "ID": 100,
    "NAME": 0,
    "STATE": 0,
    "PROGRESS": 0,
    "LOSS": 0,
    "ETA": 0,
    "WHY": 120,
}
NAME_WIDTH, WIDE_NAME = 18, 28
# Characters around each cell, and at the right edge.
PADDING, SCROLLBAR = 2, 2


@dataclass(frozen=True, slots=True)
class Look:
    """The host, the jobs that wait in their order, all jobs that have not ended, and the newest that have."""

    host: Host
    queue: tuple[QueuedJob, ...]
    jobs: tuple[Job, ...]
    ended: tuple[Job, ...]
    time: datetime


class Row(NamedTuple):
    """A job, its place in the queue if it has one, and its cells by column."""

    job: Job
    queued: QueuedJob | None
    cells: Mapping[str, str]


def look(client: Client) -> Look:
    """Asks the daemon."""
    states = [state for state in JobState if state is not JobState.UNKNOWN]
    over = [state for state in states if state.finished]
    going = client.list(states=[state for state in states if not state.finished])
    ended = islice(client.list(states=over, page_size=ENDED), ENDED)
    return Look(client.host(), client.queue(), tuple(going), tuple(ended), datetime.now(UTC))


def rows(seen: Look, *, ended: bool) -> list[Row]:
    """Jobs that run, those that wait in the order of the queue, the others, and with `ended` those that are over."""
    queue = {each.job: each for each in seen.queue}
    running = [job for job in seen.jobs if job.start_time and job.id not in queue and job.state != "paused"]
    waiting = sorted((job for job in seen.jobs if job.id in queue), key=lambda job: queue[job.id].position)
    known = {job.id for job in (*running, *waiting)}
    others = [job for job in seen.jobs if job.id not in known]
    shown = (*running, *waiting, *others, *(seen.ended if ended else ()))
    return [Row(job, queue.get(job.id), _cells(job, queue.get(job.id), seen.time)) for job in shown]


def columns(width: int) -> list[str]:
    """The columns that have room in so many characters."""
    return [name for name, least in COLUMNS.items() if width >= least]


def headline(seen: Look) -> str:
    """The host in a line."""
    host = seen.host
    counts = ", ".join(f"{count} {state}" for state, count in sorted(host.jobs_by_state.items())) or "no jobs"
    free = f"{text.size(host.state_free_bytes)} free in {host.state_directory}"
    return f"{host.hostname} · ftd {host.version} · {counts} · {free}"


def detail(row: Row, host: Host, now: datetime) -> list[str]:
    """What else there is to say of a job, a line each."""
    job, queued = row.job, row.queued
    labels = " ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    head = f"{job.id}  {job.name}  project {job.project or text.NOTHING}  priority {job.priority}  {labels}".rstrip()
    lines = [head, job.reason.message if job.reason else ""]
    if queued:
        needs = f"needs {queued.devices} × {text.size(queued.bytes_per_device)}"
        behind = f", waits for {', '.join(queued.waits_for)}" if queued.waits_for else ""
        lines.append(f"{needs}{behind}; starts {text.forecast(queued.forecast, now)}")
    held = [
        f"{devices.label(device)}: {text.size(use.used_bytes)} of {text.size(use.reserved_bytes)} reserved"
        for device in host.devices
        for use in device.uses
        if use.job == job.id
    ]
    return [line for line in (*lines, *held) if line]


def _cells(job: Job, queued: QueuedJob | None, now: datetime) -> dict[str, str]:
    progress = job.progress
    return {
        "#": str(queued.position) if queued and queued.position else "",
        "ID": job.id,
        "NAME": job.name,
        "STATE": str(job.state),
        "PROGRESS": progress_of(job),
        "LOSS": text.number(progress.loss) if progress else text.NOTHING,
        "ETA": _eta(job, queued, now),
        "WHY": job.reason.message if job.reason else "",
    }


def _eta(job: Job, queued: QueuedJob | None, now: datetime) -> str:
    if job.state.finished:
        return f"{text.age(job.end_time, now)} ago"
    if queued:
        when = text.forecast(queued.forecast, now).partition(" (")[0]
        return f"starts {when}" if when != text.NOTHING else when
    left = job.progress.eta_seconds if job.progress else None
    return f"ends in {text.duration(left)}" if left is not None and job.state != "paused" else text.NOTHING


def shortened(value: str, room: int) -> str:
    """At most `room` characters of it."""
    return value if len(value) <= room else f"{value[: max(0, room - 1)]}…"


def cells(shown: Sequence[Row], names: Sequence[str], width: int) -> list[list[str]]:
    """The cells of rows for a terminal of so many characters: long names and reasons are cut."""
    longest = NAME_WIDTH if width < COLUMNS["ID"] else WIDE_NAME
    table = [
        [shortened(row.cells[name], longest) if name == "NAME" else row.cells[name] for name in names] for row in shown
    ]
    if "WHY" not in names:
        return table
    others = [max(map(len, column)) for column in zip(names[:-1], *(line[:-1] for line in table), strict=True)]
    room = width - sum(others) - PADDING * len(names) - SCROLLBAR
    return [[*line, shortened(why, room)] for *line, why in table]
