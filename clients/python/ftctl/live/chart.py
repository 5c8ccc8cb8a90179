"""Curves in braille, eight dots a character: points to lines of characters and their colours. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import pairwise

# Bits of a braille character by [row][column]; U+2800 is the empty one.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_EMPTY = 0x2800
_BARS = "▁▂▃▄▅▆▇█"
Point = tuple[float, float]


class Axis(StrEnum):
    """What a curve goes along from left to right: updates, seconds since the first sample, or tokens."""

    STEP = auto()
    TIME = auto()
    TOKENS = auto()


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of x, joined by lines unless `dots`. Where curves meet, the later one's style wins.

    A `letter` stands at its end where a plot has several.
    """

    points: Sequence[Point]
    style: str
    dots: bool = False
    letter: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of the chart."""

    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The range of values that a chart shows."""

    left: float
    right: float
    low: float
    high: float

    def column(self, x: float, width: int) -> int:
        """Which of `width` columns an x is in."""
        return round((x - self.left) / (self.right - self.left) * (width - 1))

    def row(self, y: float, height: int) -> int:
        """Which of `height` rows a y is in, 0 at the top."""
        return round((self.high - y) / (self.high - self.low) * (height - 1))


def frame_of(curves: Sequence[Curve]) -> Frame:
    """A range that holds every point, with a margin that does not lead below 0; never empty. There must be a point."""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    low, high = min(ys), max(ys)
    margin = max((high - low) * 0.04, abs(high) * 1e-3, 1e-9)
    bottom = 0.0 if 0 <= low < margin else low - margin
    return Frame(min(xs), max(max(xs), min(xs) + 1), bottom, high + margin)


def draw(curves: Sequence[Curve], frame: Frame, width: int, height: int) -> list[list[Cell]]:
    """`height` rows of `width` characters, the top row first."""
    bits = [[0] * width for _ in range(height)]
    styles = [[""] * width for _ in range(height)]
    for curve in curves:
        for column, row in _dots(curve, frame, 2 * width, 4 * height):
            bits[row // 4][column // 2] |= _BITS[row % 4][column % 2]
            styles[row // 4][column // 2] = curve.style
    return [
        [Cell(chr(_EMPTY + dot) if dot else " ", style) for dot, style in zip(*row, strict=True)]
        for row in zip(bits, styles, strict=True)
    ]


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as one line of bars, the mean of each stretch where there are more than `width`."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _dots(curve: Curve, frame: Frame, width: int, height: int) -> Iterator[tuple[int, int]]:
    """The dots of a curve as (column, row), row 0 at the top."""
    places = [(frame.column(x, width), frame.row(y, height)) for x, y in curve.points]
    if curve.dots:
        for column, row in places:
            yield from ((c, row) for c in (column, column + 1) if c < width)
        return
    yield from places[:1]
    for start, end in pairwise(places):
        yield from _line(start, end)


def _line(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots from `start` to `end`, without the first."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for step in range(1, steps + 1):
        yield (
            start[0] + round((end[0] - start[0]) * step / steps),
            start[1] + round((end[1] - start[1]) * step / steps),
        )
