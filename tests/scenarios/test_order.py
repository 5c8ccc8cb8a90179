"""A higher priority goes first, then who waits longest; the order of submission to the planner does not matter."""

from __future__ import annotations

from itertools import permutations

from tests.support.fleet import decide, gpu, job, starts


def test_the_oldest_goes_first() -> None:
    queue = [job("young", 60, age=1), job("old", 60, age=100), job("middle", 60, age=50)]
    for order in permutations(queue):
        decision = decide([gpu(0)], order)
        assert starts(decision) == {"old": ("GPU-0",)}
        assert [wait.job for wait in decision.waits] == ["middle", "young"]


def test_priority_outranks_age() -> None:
    queue = [job("old", 60, age=100), job("urgent", 60, priority=1), job("idle", 60, age=900, priority=-5)]
    decision = decide([gpu(0)], queue)
    assert starts(decision) == {"urgent": ("GPU-0",)}
    assert [wait.job for wait in decision.waits] == ["old", "idle"]


def test_equal_jobs_are_ordered_by_their_id() -> None:
    decision = decide([gpu(0)], [job("b", 60), job("a", 60)])
    assert starts(decision) == {"a": ("GPU-0",)}
