from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ftclient import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        (2.5, 2.5),
        ("90s", 90),
        ("45m", 2700),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5h", 5400),
        (" 2 h ", 7200),
    ],
)
def test_durations(text: str | float, expected: float) -> None:
    assert units.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "-5", "5w", "1h30", "h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; accepted: seconds as a number, or e\.g\. 90s"):
        units.seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("1 B", 1), ("24GiB", 24 * 2**30), ("24 GB", 24 * 10**9), ("1.5kib", 1536), ("2TiB", 2 * 2**40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert units.size(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "24G", "-1GiB", "1 GiB 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size; accepted: bytes as a number"):
        units.size(text)


NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in 2h", "2027-01-31T14:00:00+00:00"),
        ("+1h30m", "2027-01-31T13:30:00+00:00"),
        (" in 90 ", "2027-01-31T12:01:30+00:00"),
        ("2027-02-01T08:00:00Z", "2027-02-01T08:00:00+00:00"),
        ("2027-02-01T08:00:00-05:00", "2027-02-01T08:00:00-05:00"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert units.time(text, NOW).isoformat() == expected


@pytest.mark.parametrize("text", ["", "2h", "in", "in 5w", "soon", "2027-02-01T08:00:00", "2027-13-01T08:00:00Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: "):
        units.time(text, NOW)
