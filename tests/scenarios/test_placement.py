"""Idle devices first, then the one with the least memory to spare; pins and limits are kept."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, starts

from ftsched.model import WaitCode


def test_the_smallest_device_that_fits() -> None:
    devices = [gpu(0, total=80), gpu(1, total=24), gpu(2, total=48)]
    assert starts(decide(devices, [job("a", 20)])) == {"a": ("GPU-1",)}
    assert starts(decide(devices, [job("a", 40)])) == {"a": ("GPU-2",)}


def test_the_device_with_the_least_to_spare_among_shared_ones() -> None:
    devices = [gpu(0), gpu(1), gpu(2)]
    holding = [holds("x", 0, size=20), holds("y", 1, size=50), holds("z", 2, size=70)]
    assert starts(decide(devices, [job("a", 25)], holding)) == {"a": ("GPU-1",)}


def test_an_idle_device_before_a_shared_one() -> None:
    devices = [gpu(0), gpu(1)]
    assert starts(decide(devices, [job("a", 10)], [holds("b", 0, size=40)])) == {"a": ("GPU-1",)}


def test_jobs_of_one_plan_spread_before_they_share() -> None:
    decision = decide([gpu(0), gpu(1)], [job("a", 10, age=3), job("b", 10, age=2), job("c", 10, age=1)])
    assert starts(decision) == {"a": ("GPU-0",), "b": ("GPU-1",), "c": ("GPU-0",)}


def test_pinned_devices_and_no_others() -> None:
    devices = [gpu(0), gpu(1), gpu(2)]
    assert starts(decide(devices, [job("a", 10, pinned=[2])])) == {"a": ("GPU-2",)}
    decision = decide(devices, [job("a", 60, pinned=[2])], [holds("b", 2, size=50)])
    (wait,) = decision.waits
    assert wait.code is WaitCode.PINNED_DEVICES_BUSY
    assert wait.message.startswith("needs 60.0 GiB on 1 GPU, pinned to GPU-2; best is GPU 2 with 30.0 GiB free")
    assert wait.waits_for == ("b",)


def test_an_exclusive_device_takes_one_job_whatever_its_memory() -> None:
    decision = decide([gpu(0, jobs=1)], [job("a", 10)], [holds("b", 0, size=10)])
    (wait,) = decision.waits
    assert wait.code is WaitCode.NOT_ENOUGH_FREE_DEVICES
    assert wait.message == (
        "needs 10.0 GiB on 1 GPU; best is GPU 0 with 70.0 GiB free, 10.0 GiB promised to job b, one job at a time"
    )
    assert wait.waits_for == ("b",)


def test_a_shared_device_takes_as_many_as_its_limit() -> None:
    queue = [job("a", 10, age=3), job("b", 10, age=2), job("c", 10, age=1)]
    decision = decide([gpu(0, jobs=2)], queue)
    assert set(starts(decision)) == {"a", "b"}
    assert "2 jobs at a time" in decision.waits[0].message
