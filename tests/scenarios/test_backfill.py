"""Others pass the first blocked job if they do not delay it: over by then, or leaving it its place."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, reasons, starts

from ftsched.model import Policy, WaitCode

HOUR = 3600.0
DEVICES = [gpu(0, jobs=1), gpu(1, jobs=1)]
FIRST = job("first", 60, devices=2, front=True)
RUNNING = [holds("running", 0, size=60, run=2 * HOUR)]


def test_a_job_that_is_over_by_then_passes() -> None:
    assert starts(decide(DEVICES, [FIRST, job("short", 60, run=1 * HOUR)], RUNNING)) == {"short": ("GPU-1",)}


def test_the_first_does_not_wait_for_those_who_pass_it() -> None:
    decision = decide(DEVICES, [FIRST, job("short", 60, run=1 * HOUR)], RUNNING)
    assert reasons(decision)["first"].waits_for == ("running",)


def test_a_job_that_is_not_waits_and_says_for_whom() -> None:
    decision = decide(DEVICES, [FIRST, job("long", 60, run=3 * HOUR)], RUNNING)
    wait = reasons(decision)["long"]
    assert (wait.code, wait.waits_for) == (WaitCode.BEHIND_OTHER_JOBS, ("first",))
    assert wait.message.endswith("kept for job first, which goes first")
    assert reasons(decision)["first"].waits_for == ("running",)


def test_nobody_knows_when_a_job_of_unknown_length_is_over() -> None:
    assert starts(decide(DEVICES, [FIRST, job("unknown", 60)], RUNNING)) == {}


def test_behind_a_job_of_unknown_length_even_short_ones_wait() -> None:
    unknown = [holds("running", 0, size=60)]
    assert starts(decide(DEVICES, [FIRST, job("short", 60, run=60)], unknown)) == {}


def test_a_job_that_leaves_the_first_its_place_passes_however_long() -> None:
    shared = [gpu(0)]
    waiting = [job("first", 60, front=True), job("fits beside", 20), job("does not", 21)]
    decision = decide(shared, waiting, [holds("running", 0, size=30, run=2 * HOUR)])
    assert starts(decision) == {"fits beside": ("GPU-0",)}


def test_the_place_that_is_free_the_soonest_is_kept_and_others_are_used() -> None:
    holding = [holds("soon", 0, size=60, run=1 * HOUR), holds("late", 1, size=50, run=9 * HOUR)]
    devices = [gpu(0), gpu(1)]
    decision = decide(devices, [job("first", 60, front=True), job("next", 25)], holding)
    assert reasons(decision)["first"].waits_for == ("soon",)
    assert starts(decision) == {"next": ("GPU-1",)}


def test_enough_devices_on_the_wrong_hosts_are_no_place() -> None:
    devices = [gpu(i, jobs=1, host=f"host{i // 2}") for i in range(4)]
    holding = [holds("soon", 1, size=60, run=1 * HOUR), holds("late", 3, size=60, run=2 * HOUR)]
    waiting = [job("pair", 60, devices=2, front=True), job("long", 60, run=5 * HOUR)]
    decision = decide(devices, waiting, holding)
    assert reasons(decision)["pair"].waits_for == ("soon",)
    assert starts(decision) == {"long": ("GPU-2",)}


def test_whole_hosts_are_kept_for_a_gang_of_several() -> None:
    devices = [gpu(i, jobs=1, host=f"host{i // 2}") for i in range(4)]
    holding = [holds("running", 0, size=60, run=1 * HOUR)]
    waiting = [job("four", 60, devices=4, front=True), job("long", 60, run=5 * HOUR), job("short", 60, run=60)]
    assert starts(decide(devices, waiting, holding)) == {"short": ("GPU-1",)}


def test_the_policy_may_let_all_pass_or_none() -> None:
    waiting = [FIRST, job("long", 60, run=3 * HOUR), job("short", 60, run=60)]
    assert set(starts(decide(DEVICES, waiting, RUNNING, policy=Policy(backfill="fill")))) == {"short"}
    decision = decide(DEVICES, waiting, RUNNING, policy=Policy(backfill="none"))
    assert starts(decision) == {}
    assert reasons(decision)["short"].message == "needs 60.0 GiB on 1 GPU; nothing may pass job first, which goes first"
