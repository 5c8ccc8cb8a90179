"""The fields of a spec for people: one with what is inside it, or all of them, a line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ftclient.errors import FtError
from ftctl import output
from ftctl.text import NOTHING

if TYPE_CHECKING:
    from ftclient.schema import SpecField


def instead(path: str, error: FtError) -> None:
    """The field of that path; without one raises the error about the job, and names fields that may be meant."""
    from ftclient import schema

    found = schema.find(path)
    if found is None:
        if near := schema.near(path):
            error.advice = f"of a spec there is {', '.join(near)}; {error.advice}"
        raise error
    field(found)


def top() -> None:
    """The fields that a spec begins with."""
    from ftclient import schema

    table(each for each in schema.fields() if "." not in each.path)


def field(found: SpecField) -> None:
    """What one field takes and means, its choices, and the fields inside it."""
    from ftclient import schema

    output.fields(("Field", found.path), ("Takes", found.takes), ("Meaning", found.meaning))
    if found.choices:
        output.section("Choices")
        output.table(["VALUE", "MEANING"], [[name, meaning or NOTHING] for name, meaning in found.choices])
    if found.fields:
        output.section("Fields")
        table(inside for path in found.fields if (inside := schema.find(path)))


def table(found: Iterable[SpecField]) -> None:
    """A row for each field."""
    output.table(["FIELD", "TAKES", "MEANING"], [[each.path, each.takes, each.meaning or NOTHING] for each in found])
