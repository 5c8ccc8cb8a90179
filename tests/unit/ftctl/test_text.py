from __future__ import annotations

import math

import pytest

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
