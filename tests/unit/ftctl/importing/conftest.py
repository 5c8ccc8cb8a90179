"""Runs imports in this process: a tool's keys to a report, and whole commands on the files of tests/data/import."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.ftctl.conftest import Transcript

from ftctl.importing.place import Place
from ftctl.importing.report import Report
from ftctl.importing.rules import Tool, run

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[3] / "data" / "import"
TRAININGS = sorted(path for tool in ("llamafactory", "swift", "axolotl") for path in (EXAMPLES / tool).iterdir())


def look(path: Path) -> str | None:
    if path.is_dir():
        return ""
    return path.read_text() if path.is_file() else None


def place(folder: Path = EXAMPLES) -> Place:
    return Place(folder, folder, look)


@pytest.fixture
def imported() -> Callable[..., Report]:
    """The report on keys of a tool, with the data of the examples beside them."""

    def read(tool: Tool, **keys: Any) -> Report:
        return run(tool, keys, place())

    return read


@pytest.fixture
def same_transcript() -> Callable[[str, Transcript], None]:
    """Compares a transcript with golden/NAME.txt; GOLDEN=write writes the file anew."""

    def compare(name: str, done: Transcript) -> None:
        shown = f"--- stdout\n{done.out}--- stderr\n{done.err}--- exit {done.code}\n".replace(str(EXAMPLES), "EXAMPLES")
        file = GOLDEN / f"{name}.txt"
        if os.environ.get("GOLDEN") == "write":
            file.write_text(shown)
        assert shown == file.read_text()

    return compare
