from __future__ import annotations

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
