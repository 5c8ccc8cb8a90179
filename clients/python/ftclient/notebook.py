"""How records show themselves in a notebook: HTML that needs no script, no style sheet and no network. Pure text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from html import escape
from itertools import groupby
from typing import Any

_WIDTH, _HEIGHT, _EDGE = 560, 180, 28
# A curve has two points for each column of the chart at most: the lowest and the highest, so that no spike is lost.
_COLUMNS = 400
_CELL = "padding:2px 12px 2px 0;text-align:left;vertical-align:top"
Point = tuple[float, float]


def table(record: Any) -> str:
    """The fields of a record that say something, in two columns; whole specs are too long for one."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return _table((name, value) for name, value in values if (not hasattr(value, "DESCRIPTOR") and value) or value == 0)


def chart(job: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The loss and the evaluation loss over the steps, and the last of all that was measured."""
    train = _points(rows, "loss")
    evaluated = _points(rows, "eval_loss")
    if not train and not evaluated:
        return f"<p>{escape(job)} has measured nothing yet</p>"
    last: dict[str, Any] = {}
    for row in rows:
        last |= {name: value for name, value in row.items() if value is not None}
    return f"<figure style='margin:0'>{_svg(job, train, evaluated)}</figure>{_table(last.items())}"


def _points(rows: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    found = ((row["step"], row.get(name)) for row in rows)
    return [(float(step), float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _svg(job: str, train: Sequence[Point], evaluated: Sequence[Point]) -> str:
    steps, values = zip(*train, *evaluated, strict=True)
    left, right, low, high = min(steps), max(steps), min(values), max(values)

    def at(point: Point) -> str:
        x = _EDGE + (point[0] - left) / ((right - left) or 1) * (_WIDTH - 2 * _EDGE)
        y = _HEIGHT - _EDGE - (point[1] - low) / ((high - low) or 1) * (_HEIGHT - 2 * _EDGE)
        return f"{x:.1f},{y:.1f}"

    line = " ".join(map(at, _thinned(train, left, right)))
    dots = "".join(
        "<circle cx='{}' cy='{}' r='3' fill='#d9480f'/>".format(*at(point).split(",")) for point in evaluated
    )
    words = f"loss of {job} from step {left:g} to {right:g}: lowest {low:.4g}, highest {high:.4g}"
    return (
        f"<svg role='img' aria-label='{escape(words, quote=True)}' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' "
        "font-size='11' font-family='sans-serif' fill='currentColor'>"
        f"<polyline points='{line}' fill='none' stroke='#1c7ed6' stroke-width='1.5'/>{dots}"
        f"<text x='0' y='{_EDGE - 8}'>{high:.4g}</text><text x='0' y='{_HEIGHT - _EDGE + 14}'>{low:.4g}</text>"
        f"<text x='{_EDGE}' y='{_HEIGHT - 2}'>step {left:g}</text>"
        f"<text x='{_WIDTH - _EDGE}' y='{_HEIGHT - 2}' text-anchor='end'>{right:g}</text>"
        f"<text x='{_WIDTH / 2}' y='12' text-anchor='middle'>"
        "<tspan fill='#1c7ed6'>loss</tspan> <tspan fill='#d9480f'>evaluation</tspan></text></svg>"
    )


def _thinned(points: Sequence[Point], left: float, right: float) -> list[Point]:
    """The lowest and the highest point of each column of the chart, in their order."""
    width = (right - left) / _COLUMNS or 1.0
    kept: list[Point] = []
    for _, column in groupby(points, key=lambda point: int((point[0] - left) / width)):
        members = list(column)
        ends = {min(members, key=lambda point: point[1]), max(members, key=lambda point: point[1])}
        kept += sorted(ends, key=members.index)
    return kept


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = (
        f"<tr><th style='{_CELL}'>{escape(name)}</th><td style='{_CELL}'>{escape(_text(value))}</td></tr>"
        for name, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, tuple):
        return f"{len(value)}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return str(getattr(value, "message", "") or value)
