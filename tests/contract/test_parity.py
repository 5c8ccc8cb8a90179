"""The table of both SDKs in clients/README.md has each public call and error of either, and names none that is not."""

from __future__ import annotations

import re
from pathlib import Path

from ftclient import AsyncClient, Client, errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "clients" / "README.md").read_text(encoding="utf-8")
SOURCES = [p for p in sorted((ROOT / "clients" / "go").glob("*.go")) if not p.name.endswith("_test.go")]
GO = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
# What says how an error came about, and is never raised by itself.
BASES = {"FtError", "ApiError", "Problem"}


def column(number: int) -> set[str]:
    """The names in one column of the table; a dash is none."""
    rows = re.findall(r"^\|(.*)\|$", PAGE.split("<!-- parity -->")[1], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[number])}


def test_the_table_has_the_calls_and_errors_of_python() -> None:
    calls = {name for name in dir(Client) if not name.startswith("_")}
    raised = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.FtError)
    }
    assert column(0) == calls | (raised - BASES)


def test_both_clients_of_python_have_the_same_calls() -> None:
    assert {n for n in dir(Client) if n[0] != "_"} == {n for n in dir(AsyncClient) if n[0] != "_"}


def test_the_table_has_the_calls_and_errors_of_go() -> None:
    calls = set(re.findall(r"^func \(c \*Client\) ([A-Z]\w*)\(", GO, re.MULTILINE))
    kinds = set(re.findall(r"^\t(Err[A-Z]\w*) +=", GO, re.MULTILINE))
    made = set(re.findall(r"^type ([A-Z]\w*Error) struct", GO, re.MULTILINE))
    assert column(1) == calls | kinds | made
