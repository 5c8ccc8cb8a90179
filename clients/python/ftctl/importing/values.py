"""Values as the tools' files and command lines write them: numbers and switches in texts, lists with commas.

Each reader raises ValueError with what would be accepted. A tool that reads YAML 1.1 takes `yes` for true and a text
such as 1e-4 for a number where its field is one; so do these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[Any], Any]

_TRUE, _FALSE = ("true", "yes", "on", "y", "t", "1"), ("false", "no", "off", "n", "f", "0")


def flag(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("expected true or false")


def number(value: Any) -> float:
    """A number; whole ones stay whole."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("expected a number")  # noqa: TRY004  one error for all that is wrong with a value
    try:
        read = float(value.replace("_", "") if isinstance(value, str) else value)
    except ValueError:
        raise ValueError("expected a number") from None
    if read != read or read in (float("inf"), float("-inf")):
        raise ValueError("expected a finite number")
    return int(value) if isinstance(value, int) else read


def is_number(value: Any, read: Any) -> bool:
    """Whether a value is this number, perhaps as a text."""
    try:
        return not isinstance(read, bool) and number(value) == read
    except ValueError:
        return False


def integer(value: Any) -> int:
    """A whole number."""
    read = number(value)
    if read != int(read):
        raise ValueError("expected a whole number")
    return int(read)


def count(value: Any) -> int:
    """A whole number, at least 1."""
    read = integer(value)
    if read < 1:
        raise ValueError("expected a whole number, at least 1")
    return read


def text(value: Any) -> str:
    """A text; a number is one too, if the file forgot the quotes."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError("expected a text")


def word(value: Any) -> str:
    """A name from a choice, in small letters. YAML 1.1 takes a bare `no` for false: it is the name again."""
    if isinstance(value, bool):
        return "true" if value else "no"
    return text(value).lower()


def words(value: Any) -> list[str]:
    """A list of texts, or one text with commas."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [read for item in items if (read := text(item))]


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, or a text with one in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("expected a mapping, or one in JSON") from None
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    raise ValueError("expected a mapping")


def is_off(value: Any) -> bool:
    """Whether a value asks for nothing: no, 0, empty, `none`."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "null", *_FALSE)
    return not value
