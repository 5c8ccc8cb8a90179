from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fttrain.data.choice import copies, held_back


@given(count=st.integers(0, 300), weight=st.floats(0.01, 100))
def test_the_copies_add_up_to_the_weight_and_differ_by_one_at_most(count: int, weight: float) -> None:
    times = copies(count, weight, "42/a")
    assert abs(sum(times) - count * weight) <= 0.5 + 1e-6
    assert max(times, default=0) - min(times, default=0) <= 1


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
