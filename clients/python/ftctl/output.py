"""Data to standard output: aligned tables for people, protobuf JSON, YAML, CSV and names for programs.

A table is coloured on a terminal, and plain text with two spaces between columns in a pipe; NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum, auto
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from ftctl.text import NOTHING

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table

STATE_STYLES = {
    "preparing": "blue",
    "queued": "yellow",
    "starting": "cyan",
    "running": "cyan",
    "stopping": "magenta",
    "paused": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
}
STYLES = STATE_STYLES | {"yes": "green", "no": "yellow"}


class Format(StrEnum):
    """How a command prints its data."""

    TABLE = auto()
    WIDE = auto()
    JSON = auto()
    YAML = auto()
    NAME = auto()
    JSONL = auto()
    CSV = auto()
    CHART = auto()


@cache
def console() -> Console:
    """Standard output, for people."""
    from rich.console import Console

    return Console(highlight=False)


def line(text: str = "") -> None:
    """One line of data."""
    sys.stdout.write(f"{text}\n")


def flush() -> None:
    """Lets a reader of a pipe see what is there so far."""
    sys.stdout.flush()


def as_dict(message: Message) -> dict[str, Any]:
    """The message as protobuf JSON has it, with the names that the contract and spec files use."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def one(message: Message, form: Format) -> None:
    """One message as JSON, JSON line or YAML."""
    if form is Format.YAML:
        yaml(as_dict(message))
    else:
        line(json.dumps(as_dict(message), indent=2 if form is Format.JSON else None, ensure_ascii=False))


def document(value: Any) -> None:
    """Plain values as JSON."""
    line(json.dumps(value, indent=2, ensure_ascii=False))


def many(messages: Iterable[Message], form: Format) -> None:
    """Messages as a JSON array, as JSON lines or as a YAML list."""
    if form is Format.JSONL:
        for message in messages:
            one(message, form)
        return
    values = [as_dict(message) for message in messages]
    if form is Format.YAML:
        yaml(values)
    else:
        document(values)


def csv(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows as CSV, each at once."""
    from csv import writer

    out = writer(sys.stdout, lineterminator="\n")
    out.writerow(headers)
    for row in rows:
        out.writerow(["" if value is None else value for value in row])
        flush()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Rows under headers, the columns in `right` aligned to the right. On a terminal a state has its colour."""
    if console().is_terminal:
        console().print(drawn(headers, rows, right=right))
    else:
        _plain(headers, rows, right)


def drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Table:
    """The same table as a terminal shows it."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, header in enumerate(headers):
        last = index == len(headers) - 1
        shown.add_column(header, justify="right" if index in right else "left", no_wrap=not last, overflow="ellipsis")
    for row in rows:
        shown.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return shown


def noted(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[Sequence[str]],
    *,
    names: Sequence[str],
    right: Sequence[int] = (),
    cut: int,
) -> None:
    """A table with long notes on its rows, in columns called `names`; on a terminal each is a line below its row.

    What a terminal has no room for is cut from the column `cut`.
    """
    if not console().is_terminal:
        _plain([*headers, *names], [[*row, *note] for row, note in zip(rows, notes, strict=True)], right)
        return
    from rich.padding import Padding
    from rich.text import Text

    head, *lines = _aligned(_shortened([headers, *rows], cut), right)
    console().print(Text(head, style="bold"), soft_wrap=True)
    for line, note in zip(lines, notes, strict=True):
        console().print(Text(line), soft_wrap=True)
        for name, text in zip(names, note, strict=True):
            if text and text != NOTHING:
                words = text if name == names[-1] else f"{name.lower()} {text}"
                console().print(Padding(Text(words, style="dim"), (0, 0, 0, 3)))


def _shortened(rows: Sequence[Sequence[str]], cut: int) -> Sequence[Sequence[str]]:
    """The rows with the cells of one column so short that a row has room on the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(8, widths[cut] - max(0, sum(widths) + 2 * len(widths) - console().width))
    return [
        [cell if index != cut or len(cell) <= room else f"{cell[: room - 1]}…" for index, cell in enumerate(row)]
        for row in rows
    ]


def fields(*pairs: tuple[str, str]) -> None:
    """Values behind their names, those without a value left out; a long one is folded in its own column."""
    given = [(f"{name}:", value) for name, value in pairs if value]
    width = max((len(name) for name, _ in given), default=0)
    if not console().is_terminal:
        for name, value in given:
            line(f"{name:<{width}} " + value.replace("\n", "\n" + " " * (width + 1)))
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1, 0, 0))
    for name, value in given:
        grid.add_row(Text(name, style="bold", no_wrap=True), Text(value, style=STYLES.get(value, "")))
    console().print(grid)


def section(title: str) -> None:
    """A heading, after an empty line."""
    line()
    if console().is_terminal:
        console().print(title, style="bold")
    else:
        line(title)


def option(*accepted: Format) -> Any:
    """The option -o of a command that has these formats."""

    def check(form: Format | None) -> Format | None:
        if form is not None and form not in accepted:
            raise typer.BadParameter(f"{form}: accepted here: {', '.join(accepted)}")
        return form

    names = f"{', '.join(accepted[:-1])} or {accepted[-1]}."
    return typer.Option("-o", "--output", metavar="FORMAT", help=names, callback=check)


def _plain(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    for text in _aligned([headers, *rows], right):
        line(text)


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Each row as one line, its cells under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        [cell.rjust(width) if index in right else cell.ljust(width) for index, (cell, width) in enumerate(cells)]
        for cells in (zip(row, widths, strict=True) for row in rows)
    )
    return ["  ".join(cells).rstrip() for cells in padded]


def yaml(value: Any, out: Any = None) -> None:
    """Plain values as YAML, in their own order, to standard output or another stream."""
    from ruamel.yaml import YAML

    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(value, out or sys.stdout)
