"""What a project may hold at once is a limit with numbers, and a job over it holds up nobody else's."""

from __future__ import annotations

import pytest
from tests.support.fleet import decide, gib, gpu, holds, job, reasons, starts

from ftsched.model import Policy, Quota, WaitCode


@pytest.mark.parametrize(
    ("quota", "says"),
    [
        (Quota(devices=2), "project red may hold 2 GPUs at once, holds 1, and this job adds 2"),
        (Quota(running=1), "project red may hold 1 running jobs at once, holds 1, and this job adds 1"),
        (
            Quota(memory_bytes=gib(100)),
            "project red may hold 100.0 GiB GPU memory at once, holds 20.0 GiB, and this job adds 120.0 GiB",
        ),
    ],
    ids=["devices", "running", "memory"],
)
def test_a_job_over_the_quota_says_by_how_much(quota: Quota, says: str) -> None:
    waiting = [job("over", 60, devices=2, project="red", front=True), job("other", 60, project="blue")]
    holding = [holds("mine", 0, size=20, project="red")]
    decision = decide([gpu(i) for i in range(4)], waiting, holding, policy=Policy(quotas={"red": quota}))
    wait = reasons(decision)["over"]
    assert (wait.code, wait.waits_for) == (WaitCode.QUOTA_REACHED, ("mine",))
    assert wait.message == f"needs 60.0 GiB on each of 2 GPUs; {says}"
    assert set(starts(decision)) == {"other"}


def test_the_jobs_of_one_plan_count_together() -> None:
    waiting = [job(f"j{i}", 10, project="red", age=9 - i) for i in range(4)]
    decision = decide([gpu(i) for i in range(4)], waiting, policy=Policy(quotas={"red": Quota(running=2)}))
    assert set(starts(decision)) == {"j0", "j1"}


def test_a_quota_of_zero_lets_nothing_start() -> None:
    policy = Policy(quotas={"default": Quota(devices=0)})
    decision = decide([gpu(0)], [job("a", 10)], policy=policy)
    assert reasons(decision)["a"].code is WaitCode.QUOTA_REACHED
