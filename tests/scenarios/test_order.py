"""Priority class, then front, then fair share, then the shortest service, which waiting makes shorter still."""

from __future__ import annotations

from itertools import permutations

from tests.support.fleet import decide, gpu, holds, job, order, starts

from ftsched.model import Device, Holding, Policy, Waiting

DAY = 86400.0


def queue(*waiting: Waiting, policy: Policy | None = None, usage: dict[str, float] | None = None) -> list[str]:
    """The order on a host that is full."""
    devices: list[Device] = [gpu(i, jobs=1) for i in range(4)]
    full: list[Holding] = [holds(f"held{i}", i, size=70) for i in range(4)]
    return order(decide(devices, waiting, full, policy=policy or Policy(), usage=usage))


def test_the_oldest_of_equal_jobs_goes_first() -> None:
    waiting = [job("young", 60, age=1), job("old", 60, age=100), job("middle", 60, age=50)]
    for given in permutations(waiting):
        decision = decide([gpu(0)], given)
        assert starts(decision) == {"old": ("GPU-0",)}
        assert [wait.job for wait in decision.waits] == ["middle", "young"]


def test_equal_jobs_of_one_moment_are_ordered_by_their_id() -> None:
    assert queue(job("b", 60), job("a", 60)) == ["a", "b"]


def test_priority_outranks_everything() -> None:
    short, urgent, idle = (
        job("short", 60, run=60),
        job("urgent", 60, run=9000, priority=1),
        job("idle", 60, priority=-5),
    )
    assert queue(short, urgent, idle) == ["urgent", "short", "idle"]


def test_a_job_that_was_moved_to_the_front_goes_before_all_of_its_class_only() -> None:
    waiting = [job("short", 60, run=60), job("moved", 60, run=9000, front=True), job("urgent", 60, run=99, priority=1)]
    assert queue(*waiting) == ["urgent", "moved", "short"]


def test_the_shortest_service_goes_first() -> None:
    assert queue(job("long", 60, run=7200), job("short", 60, run=600)) == ["short", "long"]
    assert queue(job("wide", 60, devices=4, run=600), job("narrow", 60, run=1200)) == ["narrow", "wide"]


def test_a_part_of_a_shared_card_is_less_service_than_the_whole() -> None:
    decision = decide([gpu(0)], [job("whole", 80, run=600), job("part", 20, run=1200)], [holds("x", 0, size=70)])
    assert order(decision) == ["part", "whole"]


def test_waiting_halves_the_service_again_and_again() -> None:
    policy = Policy(aging_seconds=1 * DAY)
    short = job("short", 60, run=100)
    assert queue(short, job("long", 60, run=700, age=2.5 * DAY), policy=policy) == ["short", "long"]
    assert queue(short, job("long", 60, run=700, age=3.5 * DAY), policy=policy) == ["long", "short"]


def test_long_jobs_age_by_their_own_length() -> None:
    policy = Policy(aging_seconds=1 * DAY)
    patient = job("month", 60, run=30 * DAY, age=100 * DAY)
    assert queue(patient, job("week", 60, run=16 * DAY), policy=policy) == ["week", "month"]


def test_running_is_not_waiting() -> None:
    policy = Policy(aging_seconds=1 * DAY)
    ran = job("ran", 60, run=700, age=4 * DAY, ran=3.5 * DAY)
    assert queue(ran, job("short", 60, run=600), policy=policy) == ["short", "ran"]


def test_jobs_of_unknown_length_get_two_hours_before_they_count_as_long() -> None:
    waiting = [job("old", 60, ran=7300), job("known", 60, run=10_000), job("new", 60)]
    assert queue(*waiting) == ["new", "known", "old"]


def test_among_unknown_ones_who_has_run_longest_goes_on() -> None:
    assert queue(job("less", 60, ran=8000, age=99), job("more", 60, ran=9000)) == ["more", "less"]


def test_the_project_that_had_least_of_its_share_goes_first() -> None:
    waiting = [job("a", 60, run=60, project="much"), job("b", 60, run=9000, project="little")]
    assert queue(*waiting, usage={"much": 1e6, "little": 1e3}) == ["b", "a"]
    weighed = Policy(weights={"much": 10_000.0})
    assert queue(*waiting, usage={"much": 1e6, "little": 1e3}, policy=weighed) == ["a", "b"]


def test_a_burst_is_charged_as_it_starts() -> None:
    waiting = [job(f"red{i}", 60, run=600, project="red", age=9) for i in range(4)]
    waiting += [job("blue", 60, run=600, project="blue")]
    decision = decide([gpu(i, jobs=1) for i in range(2)], waiting)
    assert set(starts(decision)) == {"blue", "red0"}
