from __future__ import annotations

import math
from statistics import median

import pytest

from ftsched.simulate.engine import Run
from ftsched.simulate.estimates import QUANTUM, estimated_seconds, factors, remaining_seconds
from ftsched.simulate.formats import Job

JOB = Job("a", 0, 2, 100, 3.0)


def test_who_knows_all_and_who_knows_nothing() -> None:
    assert factors("exact", 2, 1) == [1.0, 1.0]
    assert factors("nothing", 2, 1) == [math.inf, math.inf]


def test_lognormal_errors() -> None:
    """Half are too high; e^sigma is exceeded by one in six."""
    drawn = factors("lognormal:1.0", 10_000, 1)
    assert median(drawn) == pytest.approx(1.0, rel=0.05)
    assert sum(factor > math.e for factor in drawn) / 10_000 == pytest.approx(0.159, abs=0.01)


def test_the_errors_of_helios() -> None:
    """A tenth within 10 %, half within 50 %, 70 % within a factor of 2, 90 % within 11, all within 101; either way."""
    drawn = [max(factor, 1 / factor) for factor in factors("helios", 10_000, 1)]
    shares = [sum(factor <= limit for factor in drawn) / 10_000 for limit in (1.1, 1.5, 2, 11, 101)]
    assert shares == pytest.approx([0.1, 0.5, 0.7, 0.9, 1.0], abs=0.02)
    assert sum(factor > 1 for factor in factors("helios", 10_000, 1)) == pytest.approx(5_000, abs=200)


@pytest.mark.parametrize("knows", ["lognormal:1.0", "helios"])
def test_a_seed_is_an_outcome(knows: str) -> None:
    assert factors(knows, 5, 3) == factors(knows, 5, 3)
    assert factors(knows, 5, 3) != factors(knows, 5, 4)


@pytest.mark.parametrize("knows", ["", "all", "lognormal", "lognormal:", "lognormal:-1", "lognormal:nan"])
def test_other_kinds_of_knowledge(knows: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        factors(knows, 1, 1)


def test_what_remains() -> None:
    assert estimated_seconds(Run(JOB, 2.0)) == 600
    assert remaining_seconds(Run(JOB, 2.0, done_steps=50)) == 450
    assert remaining_seconds(Run(JOB, 0.5, done_steps=50)) == QUANTUM
    assert remaining_seconds(Run(JOB, math.inf)) == math.inf
