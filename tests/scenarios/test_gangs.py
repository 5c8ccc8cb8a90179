"""A job on several devices gets all of them at once, on one host, or none."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, starts

from ftsched.model import WaitCode


def test_all_devices_at_once() -> None:
    assert starts(decide([gpu(i) for i in range(4)], [job("a", 60, devices=4)])) == {
        "a": ("GPU-0", "GPU-1", "GPU-2", "GPU-3")
    }


def test_none_if_one_is_missing() -> None:
    devices = [gpu(0), gpu(1), gpu(2)]
    decision = decide(devices, [job("a", 60, devices=3)], [holds("b", 1, size=50)])
    (wait,) = decision.waits
    assert starts(decision) == {}
    assert wait.code is WaitCode.NOT_ENOUGH_FREE_DEVICES
    assert wait.message == (
        "needs 60.0 GiB on each of 3 GPUs; 2 are ready; "
        "the best others are GPU 1 with 30.0 GiB free, 50.0 GiB promised to job b"
    )
    assert wait.waits_for == ("b",)


def test_on_one_host_if_any_can_ever_hold_it() -> None:
    devices = [gpu(0, host="one"), gpu(1, host="two"), gpu(2, host="two")]
    assert starts(decide(devices, [job("a", 60, devices=2)])) == {"a": ("GPU-1", "GPU-2")}
    decision = decide(devices, [job("a", 60, devices=2)], [holds("b", 1, size=60)])
    assert decision.waits[0].waits_for == ("b",)


def test_on_whole_idle_hosts_if_none_can() -> None:
    devices = [gpu(i, host=f"host{i // 2}") for i in range(6)]
    asked = job("a", 60, devices=4)
    assert starts(decide(devices, [asked], [holds("b", 2, size=10)])) == {"a": ("GPU-0", "GPU-1", "GPU-4", "GPU-5")}
    decision = decide(devices, [asked], [holds("b", 2, size=10), holds("c", 4, size=10)])
    assert starts(decision) == {}
