"""Numbers as people read them: sizes, durations, ages, losses. Pure."""

from __future__ import annotations

import math
from datetime import datetime

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
