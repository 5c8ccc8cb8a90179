"""Numbers as people read them: sizes, durations, ages, losses, forecasts. Pure."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftclient.results import Duration, Forecast, Reason

NOTHING = "-"


def size(count: float) -> str:
    """Bytes in binary units: 1.9 GiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """The two largest units: 58s, 1m42s, 2h05m, 3d04h."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def age(then: datetime | None, now: datetime) -> str:
    """How long ago."""
    return duration((now - then).total_seconds()) if then else NOTHING


def clock(time: datetime) -> str:
    """The local time, for a line of a log."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None) -> str:
    """Four figures that matter: 1.042, 0.0001234 as 1.234e-04."""
    if value is None:
        return NOTHING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def count(value: float) -> str:
    """A large count: 134.5 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f}"


def share(fraction: float) -> str:
    """A half-width: ± 8%. Nothing if it is 0."""
    return f"± {fraction:.0%}" if fraction else ""


def about(seconds: float) -> str:
    """A time that nobody knows exactly, in one unit: 40 s, 25 min, 1.5 h, 3 d."""
    unit = _unit(seconds)
    return f"{_in(seconds, unit)} {unit[1]}"


def forecast(when: Forecast | None, now: datetime) -> str:
    """When something starts: in 2 h (1–3 h)."""
    if when is None:
        return NOTHING
    low, expected, high = (
        max(0.0, (time - now).total_seconds()) for time in (when.earliest, when.expected, when.latest)
    )
    start = f"in {about(expected)}" if expected >= 1 else "any moment"
    if about(low) == about(high):
        return start
    unit = _unit(high)
    # Half of a unit is said in that unit, less in its own; 0 has none worth saying.
    lowest = _in(low, unit) if low < 1 or low >= unit[0] / 2 else about(low)
    return f"{start} ({lowest}–{about(high)})"


def takes(time: Duration | None) -> str:
    """How long something takes, how sure that is, and why: 3h10m ± 20% (4 earlier runs of this shape)."""
    if time is None:
        return NOTHING
    parts = [duration(time.seconds), share(time.uncertainty), f"({time.basis})" if time.basis else ""]
    return " ".join(part for part in parts if part)


def because(reason: Reason | None) -> str:
    """A reason, to be put behind what it explains."""
    return f": {reason.message}" if reason and reason.message else ""


def _unit(seconds: float) -> tuple[int, str]:
    units = ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (math.inf, 86400, "d"))
    return next((size, name) for limit, size, name in units if seconds < limit)


def _in(seconds: float, unit: tuple[int, str]) -> str:
    """The number alone; below ten hours or days halves count."""
    value = seconds / unit[0]
    return f"{round(2 * value) / 2:g}" if unit[0] >= 3600 and value < 10 else f"{value:.0f}"
