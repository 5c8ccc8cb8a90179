"""The two ways data can be bad: one row, which is left out and reported, or the whole, which ends the preparation.

Every message is one line that says where, what was found and what would be accepted. It must never quote more of a row
than a few words: data can be private.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from finetuned.v1 import event_pb2
from fttrain.failure import Refused


class BadRow(Exception):
    """A row that cannot be used; the text is the reason as the report shows it."""


def refused(message: str, advice: str) -> Refused:
    """The failure of a preparation whose data cannot be used as the spec asks."""
    return Refused(event_pb2.FAILURE_CLASS_DATA_INVALID, message, advice)


def kind(value: object) -> str:
    """The JSON name of a value's type, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def counted(rows: int) -> str:
    """E.g. "1 row"."""
    return f"{rows} row{'' if rows == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Names for a message, at most a dozen."""
    names = list(names)
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "") if names else "none"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'output'` when a known name is like `name`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}" if close else ""
