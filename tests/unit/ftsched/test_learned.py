"""What measured peaks may do to an estimate, and what they may never do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ftsched.test_estimate import work

from ftsched.estimate import Estimate, Term
from ftsched.learned import AGREEMENT, RUNS_THAT_AGREE, TERM, Run, learn, shape_key

PEAK = 10_000_000_000
FOUND = Estimate(
    terms=(Term("weights", PEAK), Term("context", 900), Term("margin", 100)),
    peak_bytes=PEAK,
    reserve_bytes=PEAK + 1000,
    moment="layer",
    uncertainty=0.05,
    basis="arithmetic for llama",
)


def run(share: float, shape: str = "this") -> Run:
    """A run that needed so many times what was estimated."""
    return Run(shape, PEAK, int(share * PEAK))


@pytest.mark.parametrize("runs", [[], [Run("this", PEAK, 0)], [Run("this", 0, PEAK)], [run(1.0)]], ids=str)
def test_nothing_learned_is_nothing_changed(runs: list[Run]) -> None:
    assert learn(FOUND, "this", runs) == FOUND


def test_a_run_of_the_shape_that_needed_more_raises_it() -> None:
    found = learn(FOUND, "this", [run(1.2)])
    assert found.peak_bytes == 1.2 * PEAK
    assert found.terms[-1].name == TERM
    assert "this shape" in found.terms[-1].note


def test_another_shape_of_the_model_raises_it_by_its_share() -> None:
    found = learn(FOUND, "this", [Run("other", PEAK // 2, int(PEAK * 0.55))])
    assert found.peak_bytes == pytest.approx(1.1 * PEAK)
    assert "10%" in found.terms[-1].note


def test_one_run_that_needed_less_changes_nothing() -> None:
    assert learn(FOUND, "this", [run(0.7)]) == FOUND
    assert learn(FOUND, "this", [run(0.7, "other")] * 5) == FOUND


def test_runs_that_agree_are_believed() -> None:
    found = learn(FOUND, "this", [run(0.8), run(0.795), run(0.79)])
    assert found.peak_bytes == 0.8 * PEAK
    assert found.terms[-1].bytes == -0.2 * PEAK


def test_runs_that_do_not_agree_are_not() -> None:
    assert learn(FOUND, "this", [run(0.8), run(0.8), run(0.8 * (1 - 2 * AGREEMENT))]) == FOUND


RUNS = st.lists(
    st.builds(Run, st.sampled_from(["this", "other"]), st.integers(0, 2 * PEAK), st.integers(0, 2 * PEAK)), max_size=8
)


@given(RUNS)
def test_never_below_what_was_measured_nor_below_the_arithmetic_without_agreement(runs: list[Run]) -> None:
    found = learn(FOUND, "this", runs)
    same = [each.measured_bytes for each in runs if each.shape == "this" and each.estimated_bytes > 0]
    assert found.peak_bytes >= max(same, default=0)
    if len(same) < RUNS_THAT_AGREE:
        assert found.peak_bytes >= PEAK
    assert sum(term.bytes for term in found.terms) == found.reserve_bytes
    assert found.reserve_bytes - found.peak_bytes == FOUND.reserve_bytes - FOUND.peak_bytes


def test_a_shape_is_all_that_changes_what_is_allocated() -> None:
    one = work("lora", 2, 1024, rank=8)
    assert shape_key(one) == shape_key(replace(one))
    assert len({shape_key(each) for each in (one, replace(one, rank=9), replace(one, sequence=1025))}) == 3
