from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fttrain.data.choice import held_back, interleaved, spread, spread_over


@given(count=st.integers(1, 300), total=st.integers(0, 1000))
def test_each_row_is_taken_equally_often_or_once_more(count: int, total: int) -> None:
    times = spread(count, total, "42/a")
    assert sum(times) == total
    assert max(times) - min(times) <= 1


def test_only_the_given_rows_are_taken() -> None:
    assert list(spread_over([1, 3, 3], 5, 6, "42/a")) == [0, 2, 0, 4, 0]
    assert list(spread(0, 0, "42/a")) == []


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=4), data=st.data())
def test_interleaving_ends_with_the_first_source_or_with_the_last(counts: list[int], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0.05, 5), min_size=len(counts), max_size=len(counts)))
    under = interleaved(counts, weights, "42", over=False)
    over = interleaved(counts, weights, "42", over=True)
    assert all(taken <= count for taken, count in zip(under, counts, strict=True))
    assert not any(counts) or any(taken == count > 0 for taken, count in zip(under, counts, strict=True))
    assert all(taken >= count for taken, count in zip(over, counts, strict=True))
    assert all(taken == 0 for taken, count in zip(over, counts, strict=True) if not count)


def test_interleaving_draws_by_weight_and_by_the_seed_alone() -> None:
    drawn = interleaved([10_000, 10_000], [3, 1], "42", over=False)
    assert drawn[0] == 10_000
    assert 3000 < drawn[1] < 3700
    assert drawn == interleaved([10_000, 10_000], [3, 1], "42", over=False)
    assert drawn != interleaved([10_000, 10_000], [3, 1], "43", over=False)


@given(count=st.integers(2, 300), share=st.floats(0.001, 0.999))
def test_some_rows_are_held_back_and_some_are_not(count: int, share: float) -> None:
    assert 1 <= sum(held_back(count, share, "42")) <= count - 1


def test_the_same_seed_chooses_the_same_rows_for_ever() -> None:
    # Written down: another choice would make another evaluation set of every user's data.
    assert [i for i, flag in enumerate(held_back(20, 0.25, "42/eval")) if flag] == CHOSEN
    assert held_back(20, 0.25, "43/eval") != held_back(20, 0.25, "42/eval")


def test_nothing_is_held_back_unless_asked() -> None:
    assert sum(held_back(20, 0, "42")) == sum(held_back(1, 0.5, "42")) == 0


CHOSEN = [4, 12, 13, 15, 18]
