"""A chart with its axes, as lines of text: curves, marks, letters at the ends of curves. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from ftctl import text
from ftctl.live.chart import Axis, Cell, Curve, Frame, draw, frame_of

AXIS = "dim"
MARK = "yellow"
_UNITS: Mapping[Axis, Callable[[float], str]] = {
    Axis.STEP: lambda value: f"step {value:.0f}",
    Axis.TIME: text.duration,
    Axis.TOKENS: lambda value: f"{text.count(value)} tokens",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn. `marks` are places on the x axis with a word for each, as where an attempt began.

    On a logarithmic axis (`log_y`) values that are not above 0 have no place, and are left out.
    """

    curves: Sequence[Curve]
    axis: Axis = Axis.STEP
    log_y: bool = False
    marks: Sequence[tuple[float, str]] = ()
    value: Callable[[float], str] = text.number

    def draw(self, width: int, rows: int) -> Text:
        """The chart, `rows` lines and one of the x axis, at most `width` characters each."""
        curves = [self._placed(curve) for curve in self.curves]
        if not any(curve.points for curve in curves):
            return Text("no value above 0" if self.log_y else "no value yet", style=AXIS)
        frame = frame_of(curves)
        labels = self._labels(frame, rows)
        gutter = max(map(len, labels))
        inner = max(8, width - gutter - 2)
        cells = draw(curves, frame, inner, rows)
        columns = {frame.column(x, inner): word for x, word in self.marks if frame.left <= x <= frame.right}
        _put_marks(cells, columns)
        _put_letters(cells, curves, frame)
        shown = Text(no_wrap=True)
        for label, line in zip(labels, cells, strict=True):
            shown.append(f"{label:>{gutter}} {'┤' if label else '│'}", style=AXIS)
            for cell in line:
                shown.append(cell.text, style=cell.style)
            shown.append("\n")
        return shown.append(" " * gutter + " └", style=AXIS).append_text(self._x_axis(frame, inner, columns))

    def _placed(self, curve: Curve) -> Curve:
        if not self.log_y:
            return curve
        return replace(curve, points=[(x, math.log10(y)) for x, y in curve.points if y > 0])

    def _labels(self, frame: Frame, rows: int) -> list[str]:
        """Of the top, the middle and the bottom line; empty for the others."""
        values = [frame.high - (frame.high - frame.low) * row / max(1, rows - 1) for row in range(rows)]
        shown = [self.value(10**value if self.log_y else value) for value in values]
        return [label if row in (0, rows // 2, rows - 1) else "" for row, label in enumerate(shown)]

    def _x_axis(self, frame: Frame, width: int, marks: Mapping[int, str]) -> Text:
        """The ends in words, and between them the words of the marks that have room."""
        unit = _UNITS[self.axis]
        first, last = unit(frame.left).removeprefix("step "), unit(frame.right)
        line, taken = [" "] * width, [True] * len(first) + [False] * max(0, width - len(first))
        taken[max(0, width - len(last) - 1) :] = [True] * min(width, len(last) + 1)
        line[: len(first)] = first[:width]
        line[max(0, width - len(last)) :] = last[-width:]
        shown = Text("".join(line), style=AXIS)
        for column, word in marks.items():
            # Behind its mark, or before it if there is no room.
            for start in (column, column - len(word) + 1):
                end = start + len(word)
                if start > 0 and end < width and not any(taken[start - 1 : end + 1]):
                    taken[start:end] = [True] * len(word)
                    shown = Text.assemble(shown[:start], (word, MARK), shown[end:])
                    break
        return shown


def _put_marks(cells: Sequence[list[Cell]], columns: Mapping[int, str]) -> None:
    """A dotted line wherever no curve is."""
    for line in cells:
        for column in columns:
            if line[column].text == " ":
                line[column] = Cell("┊", MARK)


def _put_letters(cells: Sequence[list[Cell]], curves: Sequence[Curve], frame: Frame) -> None:
    """Each curve's letter at its end, or as near below or above it as there is room: it tells without colours."""
    height, width = len(cells), len(cells[0])
    taken: set[tuple[int, int]] = set()
    for curve in curves:
        if not (curve.letter and curve.points):
            continue
        x, y = curve.points[-1]
        column, wanted = frame.column(x, width), frame.row(y, height)
        row = min((r for r in range(height) if (r, column) not in taken), key=lambda r: abs(r - wanted), default=wanted)
        taken.add((row, column))
        cells[row][column] = Cell(curve.letter, f"bold {curve.style}")
