"""Which rows are used, how often, and which are held back for evaluation.

It must never depend on anything but its arguments: the same seed chooses the same rows on every machine.
"""

from __future__ import annotations

import random


def copies(count: int, weight: float, seed: str) -> bytearray:
    """How often each of `count` rows is seen in an epoch: 2.5 takes all twice and half, by the seed, once more."""
    whole = int(weight)
    times = bytearray([whole]) * count
    for index in _sample(count, round((weight - whole) * count), seed):
        times[index] += 1
    return times


def held_back(count: int, share: float, seed: str) -> bytearray:
    """1 for each of `count` rows kept for evaluation, else 0. Of two rows or more at least one is and one is not."""
    flags = bytearray(count)
    if share > 0 and count > 1:
        for index in _sample(count, min(count - 1, max(1, round(share * count))), seed):
            flags[index] = 1
    return flags


def _sample(count: int, size: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), size)  # noqa: S311  nothing secret depends on it
