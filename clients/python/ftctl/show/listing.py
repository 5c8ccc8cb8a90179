"""Follows a list of jobs: a table drawn again on a terminal, elsewhere each job at first and whenever it changes.

It asks for the list again and again; every change of state of every job, none left out, is told by `ftctl events`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.output import Format
from ftctl.show import jobs as show

if TYPE_CHECKING:
    from ftclient import Job

# Seconds between two looks.
PERIOD = 1.0


def follow(fetch: Callable[[], Sequence[Job]], form: Format, *, to_end: bool) -> None:
    """Shows what `fetch` returns until Ctrl-C, or with `to_end` until all of them have ended."""
    looks = _looks(fetch, to_end=to_end)
    if form in (Format.TABLE, Format.WIDE) and output.console().is_terminal:
        _draw(looks, form)
    else:
        _print(looks, form)


def _looks(fetch: Callable[[], Sequence[Job]], *, to_end: bool) -> Iterator[Sequence[Job]]:
    while True:
        found = fetch()
        yield found
        if to_end and all(job.state.finished for job in found):
            return
        time.sleep(PERIOD)


def _draw(looks: Iterable[Sequence[Job]], form: Format) -> None:
    from rich.live import Live

    with Live(console=output.console(), auto_refresh=False, vertical_overflow="crop") as live:
        for found in looks:
            headers, rows = show.columns(found, form)
            live.update(output.drawn(headers, rows, right=show.RIGHT), refresh=True)


def _print(looks: Iterable[Sequence[Job]], form: Format) -> None:
    if form is Format.CSV:
        output.csv(show.CSV, map(show.csv_row, changes(looks)))
        return
    if form in (Format.TABLE, Format.WIDE):
        output.line("  ".join(show.columns([], form)[0]))
    for job in changes(looks):
        match form:
            case Format.NAME:
                output.line(job.id)
            case Format.TABLE | Format.WIDE:
                output.line("  ".join(show.columns([job], form)[1][0]))
            case Format.YAML:
                output.line("---")
                output.one(job.proto, form)
            case _:
                output.one(job.proto, Format.JSONL)
        output.flush()


def changes(looks: Iterable[Sequence[Job]]) -> Iterator[Job]:
    """Each job when it is first seen, and when it is no more what it was at the look before."""
    seen: dict[str, Job] = {}
    for found in looks:
        for job in found:
            if job.id not in seen or seen[job.id].proto != job.proto:
                seen[job.id] = job
                yield job
