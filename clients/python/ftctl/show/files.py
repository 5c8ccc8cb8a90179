"""Files that are moved and kept: a bar while they are, and tables of data sets and of what jobs left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftctl import output, text

if TYPE_CHECKING:
    from ftclient.stored import Artifact, Dataset

# Digits of a SHA-256 that tell contents apart.
_DIGITS = 12


@contextmanager
def bar(verb: str) -> Iterator[Callable[[int, int], None]]:
    """What to tell of progress: a bar on a terminal, on standard error, gone when it is over; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(verb), BarColumn(), DownloadColumn(True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(verb, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def datasets(found: Sequence[Dataset]) -> None:
    """A row for each data set."""
    now = datetime.now(UTC)
    headers = ("NAME", "SIZE", "FILE", "AGE", "JOBS", "SHA256")
    rows = [
        (each.name, text.size(each.bytes), each.file, text.age(each.create_time, now), str(each.jobs), short(each))
        for each in found
    ]
    output.table(headers, rows, right=(1, 3, 4))


def short(dataset: Dataset) -> str:
    """The beginning of its SHA-256."""
    return dataset.sha256[:_DIGITS]


def artifacts(found: Sequence[Artifact]) -> None:
    """A row for each artifact, with where it lies on the daemon's host."""
    headers = ("NAME", "KIND", "STEP", "FILES", "SIZE", "PATH")
    rows = [
        (each.name, str(each.kind), str(each.step), str(len(each.files)), text.size(each.bytes), each.path)
        for each in found
    ]
    output.table(headers, rows, right=(2, 3, 4))
