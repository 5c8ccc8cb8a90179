"""Jobs beside each other: what differs in their specs, what they measured, their curves in one chart.

Each job has a letter, which heads its column and stands at the end of its curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftctl import output, text
from ftctl.live.chart import Axis, Curve
from ftctl.show.metrics import cell, place_of

if TYPE_CHECKING:
    from ftclient import Job
    from ftctl.live.history import History

STYLES = ("bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_blue", "bright_red")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Of a value that a terminal has no room for it shows the end, which is what tells paths apart, in at least so much.
LEAST = 12
# Of what swings from step to step the smoothed value is compared.
_RATES = ("tokens_per_second", "step_seconds", "grad_norm")
# Of these the lowest is compared too.
_LOSSES = ("loss", "eval_loss")


@dataclass(frozen=True, slots=True)
class Compared:
    """A job, its letter, and what it measured."""

    letter: str
    job: Job
    history: History

    @property
    def spec(self) -> dict[str, Any]:
        """The training as it runs, flat: "lora.rank" to 8."""
        from ftclient.fields import plain

        given = self.job.resolved or (self.job.spec.training if self.job.spec else None)
        return dict(_leaves(plain(given))) if given else {}

    @property
    def measured(self) -> dict[str, dict[str, float]]:
        """Each metric's last, smoothed, lowest and highest value."""
        return {
            name: {
                "last": samples[-1].value,
                "smoothed": self.history.smooth[name][-1].value,
                "lowest": min(sample.value for sample in samples),
                "highest": max(sample.value for sample in samples),
            }
            for name, samples in self.history.raw.items()
            if samples
        }


def changed(jobs: Sequence[Compared]) -> list[str]:
    """Paths of the fields that differ."""
    first, *others = specs = [job.spec for job in jobs]
    paths = dict.fromkeys(path for spec in specs for path in spec)
    return [path for path in paths if any(spec.get(path) != first.get(path) for spec in others)]


def as_dict(jobs: Sequence[Compared]) -> dict[str, Any]:
    """The comparison for programs."""
    told = [
        {"id": each.job.id, "name": each.job.name, "state": str(each.job.state), "spec": each.spec}
        | {"metrics": each.measured}
        for each in jobs
    ]
    return {"changed": changed(jobs), "jobs": told}


def tables(jobs: Sequence[Compared], *, only_changed: bool) -> None:
    """Who they are and what they measured, then their specs; a field that differs has a mark."""
    heads = [f"{each.letter} {each.job.name}".upper() for each in jobs]
    output.table(["METRIC", *heads], list(_metric_rows(jobs)))
    output.section("Spec as run")
    differing = changed(jobs)
    if only_changed and not differing:
        output.line("no field differs")
        return
    specs = [each.spec for each in jobs]
    paths = differing if only_changed else list(dict.fromkeys(path for spec in specs for path in spec))
    room = _room(paths, len(jobs))
    marks = [[] if only_changed else ["≠" if path in differing else ""] for path in paths]
    rows = [
        [*mark, path, *(_shown(spec.get(path), room) for spec in specs)]
        for mark, path in zip(marks, paths, strict=True)
    ]
    output.table([*([] if only_changed else [""]), "FIELD", *heads], rows)


def chart(jobs: Sequence[Compared], name: str, axis: Axis, *, log_y: bool) -> None:
    """The smoothed curves of one metric over each other."""
    from rich.text import Text

    from ftctl.live.plot import Plot

    console = output.console()
    curves, title = [], Text(name, style="bold")
    for index, each in enumerate(jobs):
        style = STYLES[index % len(STYLES)]
        points = each.history.points(name, axis, smooth=True)
        curves.append(Curve(points, style, letter=each.letter))
        title.append(f"   {each.letter} ", style=f"bold {style}").append(each.job.name, style=style)
        title.append(f" {cell(name, points[-1][1])}" if points else f" {text.NOTHING}", style="bold")
    rows = max(6, min(20, console.height - 12))
    plot = Plot(curves, axis, log_y, value=lambda value: cell(name, float(value)))
    output.line()
    console.print(title, plot.draw(console.width, rows), sep="\n")


def _metric_rows(jobs: Sequence[Compared]) -> Iterator[list[str]]:
    measured = [each.measured for each in jobs]
    yield ["id", *(each.job.id for each in jobs)]
    yield ["state", *(str(each.job.state) for each in jobs)]
    yield ["steps", *(_steps(each.job) for each in jobs)]
    yield ["took", *(_took(each.job) for each in jobs)]
    names = sorted({name for found in measured for name in found} - {"epoch"}, key=place_of)
    for name in names:
        which = "smoothed" if name in _RATES else "last"
        yield [f"{name}, smoothed" if name in _RATES else name, *_values(measured, name, which)]
        if name in _LOSSES:
            yield [f"{name}, lowest", *_values(measured, name, "lowest")]
    estimates = [each.job.estimate for each in jobs]
    yield ["reserved_bytes", *(text.size(found.reserve_bytes) if found else text.NOTHING for found in estimates)]


def _values(measured: Sequence[Mapping[str, Mapping[str, float]]], name: str, which: str) -> list[str]:
    return [cell(name, found[name][which] if name in found else None) for found in measured]


def _steps(job: Job) -> str:
    progress = job.progress
    return f"{progress.step}/{progress.total_steps}" if progress and progress.total_steps else text.NOTHING


def _took(job: Job) -> str:
    ended = job.end_time or job.update_time
    return text.duration((ended - job.start_time).total_seconds()) if job.start_time else text.NOTHING


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree with their paths; a list of plain values is one."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _room(paths: Sequence[str], count: int) -> int:
    """Characters for each of `count` values beside the paths; in a pipe they are whole."""
    console = output.console()
    return max(LEAST, (console.width - max(map(len, paths), default=0) - 5) // count - 2) if console.is_terminal else 0


def _shown(value: Any, room: int) -> str:
    if value is None:
        return text.NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if value in ({}, []):
        return "set" if value == {} else "none"
    if isinstance(value, float):
        return f"{value:.7g}"
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"…{shown[1 - room :]}" if 0 < room < len(shown) else shown
