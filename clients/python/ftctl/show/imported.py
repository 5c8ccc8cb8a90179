"""The report of an import for people, on standard error: the entries by kind, the worst last."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

import typer

from ftctl import session
from ftctl.importing.report import Entry, Kind, Report

_HEADINGS = {
    Kind.KEPT: ("kept", "green"),
    Kind.MAPPED: ("mapped to another name or form", "green"),
    Kind.DEFAULTED: ("defaulted differently", "yellow"),
    Kind.IGNORED: ("ignored: the same training without it", "blue"),
    Kind.REFUSED: ("refused: another training without it", "red"),
}


def report(found: Report) -> None:
    """All entries, a line each, with a heading for each kind."""
    width = max((len(_left(entry)) for entry in found.entries), default=0)
    for kind, (heading, color) in _HEADINGS.items():
        if entries := found.of(kind):
            session.note(f"{heading} ({len(entries)})", fg=color, bold=True)  # type: ignore[arg-type]
            for entry in entries:
                _line(_left(entry), _right(entry), min(width, 44))


def _line(left: str, right: str, width: int) -> None:
    """One entry; what has no room goes on below its own column."""
    columns = shutil.get_terminal_size().columns
    start = f"  {left:<{width}}  "
    if len(left) > width and right:
        session.note(f"  {left}")
        start = " " * (width + 4)
    lines = textwrap.wrap(
        right, max(columns, width + 40), initial_indent=start, subsequent_indent=" " * (width + 4),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    typer.echo("\n".join(lines or [start]).rstrip(), err=True)


def _left(entry: Entry) -> str:
    return entry.key if entry.value is None else f"{entry.key}: {_shown(entry.value)}"


def _right(entry: Entry) -> str:
    if entry.kind is Kind.DEFAULTED:
        written = f"{entry.field} = {_shown(entry.new)}" if entry.new not in (None, {}) else entry.field
        return f"→ {written}; here: {_shown(entry.ours)}{_behind(entry.text)}"
    if entry.field:
        written = f"{entry.field}: {_shown(entry.new)}" if entry.new not in (None, {}) else entry.field
        return f"→ {written}{_behind(entry.text)}"
    return f"{entry.text}{_behind(entry.instead)}"


def _behind(text: str) -> str:
    return f"; {text}" if text else ""


def _shown(value: Any) -> str:
    """A value in short."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        # Sources and weights by their place; anything else by its values: sigmoid, sft 0.2.
        case dict():
            return str(value["path"]) if "path" in value else " ".join(map(_shown, value.values()))
        case list():
            return ", ".join(map(_shown, value))
        case _:
            text = str(value)
            return text if len(text) <= 100 else f"{text[:99]}…"
