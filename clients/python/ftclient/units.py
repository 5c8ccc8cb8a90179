"""Durations, sizes and times as people write them: `90`, `1h30m`; `24GiB`, `500 MB`; `in 2h`. Pure text to numbers."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1}
_BYTES |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)}
_BYTES |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_DURATION = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*[smhd])+\s*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")

DURATION_FORMS = "seconds as a number, or e.g. 90s, 45m, 1h30m, 2d"
TIME_FORMS = "in 2h or +2h from now, or a time with its offset from UTC, e.g. 2027-01-31T18:00:00Z"
SIZE_FORMS = "bytes as a number, or e.g. 500MiB, 24GiB (powers of 1024), 24GB (powers of 1000)"


def seconds(text: str | float) -> float:
    """The duration in seconds. Raises ValueError that says what is accepted."""
    if isinstance(text, int | float):
        return float(text)
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return float(text)
    if not _DURATION.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is not a duration; accepted: {DURATION_FORMS}")
    return sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text.lower()))


def time(value: str | date, now: datetime) -> datetime:
    """The time, which YAML may have read already. Raises ValueError that says what is accepted."""
    if isinstance(value, str):
        if ahead := re.fullmatch(r"\s*(?:in\s|\+)(.+)", value):
            return now + timedelta(seconds=seconds(ahead[1]))
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{value!r} is not a time; accepted: {TIME_FORMS}") from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{value} does not say which time zone it is in; accepted: {TIME_FORMS}")
    return value


def size(text: str) -> int:
    """The size in bytes. Raises ValueError that says what is accepted."""
    found = _SIZE.fullmatch(text)
    factor = _BYTES.get((found[2] or "b").lower()) if found else None
    if not found or factor is None:
        raise ValueError(f"{text!r} is not a size; accepted: {SIZE_FORMS}")
    return round(float(found[1]) * factor)
