"""Rewards that are rules: what a text is worth, from the text alone or beside a reference answer.

Texts are whatever a model may write, so nothing here may raise for one, or take longer than its limit. Pure but for the
clock that a regular expression is stopped by.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import regex  # type: ignore[import-untyped]

# A pattern may take more time than there is (catastrophic backtracking); it is stopped after so long.
PATTERN_SECONDS = 1.0


def compiled(pattern: str) -> Any:
    """A pattern whose dot also stands for line ends. Raises ValueError if it is none."""
    try:
        return regex.compile(pattern, regex.DOTALL)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def exact_answer(text: str, answer: str, pattern: Any = None, *, numbers: bool = False) -> float:
    """1 if what the pattern finds in the text is what it finds in the answer, or all of that where it finds nothing.

    White space and case make no difference. A text in which the pattern finds nothing is wrong. Raises TimeoutError.
    """
    given, wanted = (text, answer) if pattern is None else (_last(pattern, text), _last(pattern, answer) or answer)
    if given is None:
        return 0.0
    if numbers and (number := _number(wanted)) is not None:
        return float(_number(given) == number)
    return float(_plain(given) == _plain(wanted))


def regex_match(text: str, pattern: Any, *, whole: bool = False) -> float:
    """1 where the text, or a part of it, fits the pattern. Raises TimeoutError."""
    find = pattern.fullmatch if whole else pattern.search
    return float(find(text, timeout=PATTERN_SECONDS) is not None)


def length_band(tokens: int, least: int, most: int) -> float:
    """1 from `least` to `most` tokens; below in proportion, above down to 0 at twice the most."""
    if tokens < least:
        return tokens / least
    return 1.0 if tokens <= most else max(0.0, 2.0 - tokens / most)


def tag_format(text: str, tags: Sequence[str]) -> float:
    """1 for a text that consists of the tags in their order, each once, parted by white space only."""
    rest = text.strip()
    for tag in tags:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if not rest.startswith(opening):
            return 0.0
        body, closed, rest = rest[len(opening) :].partition(closing)
        if not closed or opening in body:
            return 0.0
        rest = rest.lstrip()
    return float(not rest)


def json_valid(text: str, keys: Sequence[str] = ()) -> float:
    """1 for JSON and nothing else; with `keys` for an object that has them."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    # Deep nesting is the recursion; a number of thousands of digits is a ValueError as well.
    except (ValueError, RecursionError):
        return 0.0
    return float(not keys or (isinstance(value, dict) and set(keys) <= value.keys()))


def _refuse(constant: str) -> Any:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(constant)


def _last(pattern: Any, text: str) -> str | None:
    """The first group of the last match, or all of that match; None without one."""
    found: Any = None
    for match in pattern.finditer(text, timeout=PATTERN_SECONDS):
        found = match
    if found is None:
        return None
    return str(found[1] if pattern.groups and found[1] is not None else found[0])


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _number(text: str) -> float | None:
    """The number that a text is, as people write it: 1,000 or $12.50; None if it is none."""
    try:
        number = float(text.strip().strip("$€£%").removesuffix(".").replace(",", "").replace("_", "x"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
