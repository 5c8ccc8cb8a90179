"""Which rows are used, how often, and which are held back for evaluation.

It must never depend on anything but its arguments: the same seed chooses the same rows on every machine.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Sequence

_DRAWN_AT_ONCE = 4096


def spread(count: int, total: int, seed: str) -> array[int]:
    """How often each of `count` rows is taken for `total` rows in all: equally often, and by the seed once more."""
    whole, rest = divmod(total, count) if count else (0, 0)
    times = array("I", [whole]) * count
    for index in _sample(count, rest, seed):
        times[index] += 1
    return times


def spread_over(rows: Sequence[int], count: int, total: int, seed: str) -> array[int]:
    """The same over some of `count` rows, which are given by their indices; an index may be there several times."""
    times = array("I", [0]) * count
    for index, more in zip(rows, spread(len(rows), total, seed), strict=True):
        times[index] += more
    return times


def held_back(count: int, share: float, seed: str) -> bytearray:
    """1 for each of `count` rows kept for evaluation, else 0. Of two rows or more at least one is and one is not."""
    flags = bytearray(count)
    if share > 0 and count > 1:
        for index in _sample(count, min(count - 1, max(1, round(share * count))), seed):
            flags[index] = 1
    return flags


def interleaved(counts: Sequence[int], weights: Sequence[float], seed: str, *, over: bool) -> list[int]:
    """How many rows each source gives when rows are drawn from sources by weight, one after the other.

    It ends when one source has no row left, or with `over` when each has had all its rows; one without rows left then
    begins again. A source without rows is never drawn.
    """
    drawn, open_ = [0] * len(counts), {index for index, count in enumerate(counts) if count}
    sources = [index for index, count in enumerate(counts) if count]
    for source in _draws(sources, [weights[index] for index in sources], seed):
        drawn[source] += 1
        if drawn[source] == counts[source]:
            open_.discard(source)
            if not over or not open_:
                break
    return drawn


def _draws(sources: Sequence[int], weights: Sequence[float], seed: str) -> Iterable[int]:
    chance = random.Random(seed)  # noqa: S311  nothing secret depends on it
    while sources:
        yield from chance.choices(sources, weights, k=_DRAWN_AT_ONCE)


def _sample(count: int, size: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), size)  # noqa: S311  nothing secret depends on it
