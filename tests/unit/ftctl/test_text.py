from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from ftclient.results import Duration, Forecast
from ftctl import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 * 2**20, "150 MiB"),
        (1.5 * 2**40, "1.5 TiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_sizes(value: float, expected: str) -> None:
    assert text.size(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (math.inf, "-"),
        (-3, "0s"),
        (58.4, "58s"),
        (102, "1m42s"),
        (7500, "2h05m"),
        (3 * 86400 + 4 * 3600, "3d04h"),
    ],
)
def test_durations(value: float | None, expected: str) -> None:
    assert text.duration(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (0.0, "0"),
        (1.0416, "1.042"),
        (1e-4, "1.00e-04"),
        (12345.0, "1.234e+04"),
        (math.nan, "nan"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers(value: float | None, expected: str) -> None:
    assert text.number(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(999, "999"), (1500, "1.5 k"), (134.5e6, "134.5 M"), (2e9, "2.0 G")])
def test_counts(value: float, expected: str) -> None:
    assert text.count(value) == expected


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ((1, 2, 3), "in 2 h (1–3 h)"),
        ((0.5, 6, 30), "in 6 h (0.5–30 h)"),
        ((1 / 3, 2, 3), "in 2 h (20 min–3 h)"),
        ((0, 0.1, 0.5), "in 6 min (0–30 min)"),
        ((-1, -1, 2.4), "any moment (0–2.5 h)"),
        ((24, 60, 120), "in 2.5 d (1–5 d)"),
        ((2, 2, 2.01), "in 2 h"),
        ((0, 0, 0), "any moment"),
    ],
)
def test_forecasts(hours: tuple[float, float, float], expected: str) -> None:
    now = datetime(2027, 1, 31, tzinfo=UTC)
    assert text.forecast(Forecast(*(now + timedelta(hours=each) for each in hours)), now) == expected


def test_nobody_can_say() -> None:
    assert text.forecast(None, datetime.now(UTC)) == "-"
    assert text.takes(None) == "-"


def test_how_long_something_takes() -> None:
    assert text.takes(Duration(7500, 0.25, "measured in this job")) == "2h05m ± 25% (measured in this job)"
    assert text.takes(Duration(58, 0, "")) == "58s"
