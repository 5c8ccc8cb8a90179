"""The order that rows of like length come in."""

from __future__ import annotations

from typing import Any

import numpy as np

from fttrain.rows import ByLength


def test_rows_of_like_length_stand_together_and_each_epoch_draws_anew() -> None:
    known = np.random.default_rng(1).integers(5, 500, 400)
    order = ByLength(known, 8, seed=42)
    first, again = list(order), list(order)
    assert first == again
    assert sorted(first) == list(range(400))
    assert _padding(known, first) < 0.2 * _padding(known, list(range(400)))
    order.set_epoch(1)
    assert list(order) != first


def _padding(known: Any, order: list[int]) -> int:
    batches = known[order].reshape(-1, 8)
    return int((batches.max(axis=1, keepdims=True) - batches).sum())
