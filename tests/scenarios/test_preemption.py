"""Running jobs make room for those that outrank them: the fewest, the latest, never early, never for nothing."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, reasons, starts

from ftsched.model import Plan, Policy, Quota, WaitCode

HOUR = 3600.0
PAIR = [gpu(0, jobs=1), gpu(1, jobs=1)]
BY_SERVICE = Policy(preempt="service")


def stopped(decision: Plan) -> list[tuple[str, str]]:
    return [(each.job, each.for_job) for each in decision.preemptions]


def test_a_lower_priority_makes_room_and_says_for_whom() -> None:
    decision = decide([gpu(0)], [job("urgent", 60, priority=5)], [holds("low", 0, size=60)])
    assert stopped(decision) == [("low", "urgent")]
    assert decision.preemptions[0].message == (
        "makes room for job urgent, of priority 5; goes on from its last checkpoint"
    )
    (wait,) = decision.waits
    assert (wait.code, wait.waits_for) == (WaitCode.WAITING_FOR_PREEMPTION, ("low",))
    assert wait.message == "needs 60.0 GiB on 1 GPU; job low is making room"


def test_who_is_leaving_already_is_not_asked_twice_and_nobody_else_is() -> None:
    holding = [holds("leaves", 0, size=60, leaving=True), holds("stays", 1, size=60)]
    decision = decide(PAIR, [job("urgent", 60, priority=5), job("next", 60)], holding)
    assert stopped(decision) == []
    assert reasons(decision)["urgent"].waits_for == ("leaves",)
    assert starts(decision) == {}


def test_its_place_is_kept_until_it_is_free() -> None:
    shared = [gpu(0)]
    decision = decide(
        shared, [job("urgent", 60, priority=5), job("small", 25)], [holds("leaves", 0, size=50, leaving=True)]
    )
    assert starts(decision) == {}
    assert reasons(decision)["small"].code is WaitCode.BEHIND_OTHER_JOBS


def test_the_lowest_class_goes_first_then_the_latest_start() -> None:
    devices = [gpu(i, jobs=1) for i in range(3)]
    holding = [
        holds("middle", 0, size=60, priority=1, ran=1 * HOUR),
        holds("old", 1, size=60, ran=9 * HOUR),
        holds("young", 2, size=60, ran=2 * HOUR),
    ]
    assert stopped(decide(devices, [job("urgent", 60, priority=5)], holding)) == [("young", "urgent")]
    two = decide(devices, [job("urgent", 60, devices=2, priority=5)], holding)
    assert {victim for victim, _ in stopped(two)} == {"young", "old"}


def test_nobody_is_stopped_who_is_not_needed() -> None:
    devices = [gpu(0), gpu(1)]
    holding = [holds("small", 0, size=10, ran=1 * HOUR), holds("large", 1, size=60, ran=2 * HOUR)]
    assert stopped(decide(devices, [job("urgent", 75, priority=5)], holding)) == [("small", "urgent")]
    holding = [holds("small", 0, size=10, ran=1 * HOUR), holds("large", 0, size=60, ran=2 * HOUR)]
    assert stopped(decide([gpu(0)], [job("urgent", 60, priority=5)], holding)) == [("large", "urgent")]


def test_a_job_is_left_alone_for_its_first_minutes_and_if_it_may_not_be_stopped() -> None:
    urgent = [job("urgent", 60, priority=5)]
    assert stopped(decide([gpu(0)], urgent, [holds("new", 0, size=60, ran=599)])) == []
    assert stopped(decide([gpu(0)], urgent, [holds("new", 0, size=60, ran=600)])) == [("new", "urgent")]
    assert stopped(decide([gpu(0)], urgent, [holds("fixed", 0, size=60, preemptible=False)])) == []


def test_never_for_nothing() -> None:
    urgent = [job("urgent", 60, devices=2, priority=5)]
    holding = [holds("low", 0, size=60), holds("fixed", 1, size=60, preemptible=False)]
    assert stopped(decide(PAIR, urgent, holding)) == []
    soon = [holds("low", 0, size=60), holds("ends", 1, size=60, run=30)]
    assert stopped(decide(PAIR, [job("urgent", 60, priority=5)], soon)) == []


def test_equals_are_stopped_only_if_the_policy_says_so_and_only_for_much_shorter_ones() -> None:
    long_ = [holds("long", 0, size=60, run=10 * HOUR)]
    short, half = job("short", 60, run=1 * HOUR), job("half", 60, run=5 * HOUR)
    assert stopped(decide([gpu(0)], [short], long_)) == []
    assert stopped(decide([gpu(0)], [short], long_, policy=BY_SERVICE)) == [("long", "short")]
    assert stopped(decide([gpu(0)], [half], long_, policy=BY_SERVICE)) == []


def test_two_projects_do_not_swap_for_ever() -> None:
    long_ = [holds("long", 0, size=80, run=10 * HOUR, project="red")]
    short = [job("short", 80, run=1 * HOUR, project="blue")]
    poor, rich = {"red": 10 * HOUR, "blue": 0.0}, {"red": 30 * HOUR, "blue": 0.0}
    assert stopped(decide([gpu(0)], short, long_, policy=BY_SERVICE, usage=poor)) == []
    assert stopped(decide([gpu(0)], short, long_, policy=BY_SERVICE, usage=rich)) == [("long", "short")]


def test_nobody_is_stopped_for_a_job_whose_quota_is_full() -> None:
    urgent = [job(name, 60, priority=5, project="red") for name in ("one", "two")]
    holding = [holds("low0", 0, size=60), holds("low1", 1, size=60)]
    assert len(stopped(decide(PAIR, urgent, holding))) == 2
    limited = Policy(quotas={"red": Quota(running=1)})
    assert len(stopped(decide(PAIR, urgent, holding, policy=limited))) == 1
