"""Free is what the device does not use now and nobody was promised."""

from __future__ import annotations

from tests.support.fleet import cpu, decide, gpu, holds, job, starts

from ftsched.model import WaitCode


def test_a_job_that_has_not_grown_keeps_its_promise() -> None:
    young = holds("young", 0, size=50, used={0: 5})
    decision = decide([gpu(0, used=5)], [job("next", 31)], [young])
    assert decision.waits[0].message == (
        "needs 31.0 GiB on 1 GPU; best is GPU 0 with 30.0 GiB free, 50.0 GiB promised to job young"
    )
    assert starts(decide([gpu(0, used=5)], [job("next", 30)], [young])) == {"next": ("GPU-0",)}


def test_a_job_that_outgrew_its_promise_counts_with_what_it_uses() -> None:
    greedy = holds("greedy", 0, size=20, used={0: 55})
    decision = decide([gpu(0, used=55)], [job("next", 30)], [greedy])
    assert decision.waits[0].code is WaitCode.NOT_ENOUGH_FREE_MEMORY
    assert "25.0 GiB free" in decision.waits[0].message


def test_memory_the_driver_cannot_name_is_not_free() -> None:
    decision = decide([gpu(0, used=70)], [job("next", 20)])
    assert decision.waits[0].message == (
        "needs 20.0 GiB on 1 GPU; best is GPU 0 with 10.0 GiB free, 70.0 GiB used by others"
    )


def test_two_jobs_of_one_plan_are_not_promised_the_same_memory() -> None:
    decision = decide([gpu(0)], [job("a", 50, age=2), job("b", 50, age=1)])
    assert starts(decision) == {"a": ("GPU-0",)}
    assert decision.waits[0].waits_for == ("a",)


def test_the_cpu_is_a_device_with_the_memory_of_its_host() -> None:
    host = cpu(total=16, used=6)
    assert starts(decide([host], [job("fits", 10, on="cpu")])) == {"fits": ("cpu",)}
    decision = decide([host], [job("large", 12, on="cpu")])
    assert decision.waits[0].message == (
        "needs 12.0 GiB on the CPU; the CPU with 10.0 GiB free, 6.0 GiB used by others"
    )
