"""Who may be with whom on a device, which devices go together, and what a host has beside them."""

from __future__ import annotations

from tests.support.fleet import decide, gib, gpu, holds, job, reasons, starts

from ftsched.model import Host, Needs, Policy, WaitCode

PACK = Policy(placement="pack")


def test_a_job_that_wants_to_be_alone_takes_no_shared_device_and_shares_none() -> None:
    alone, other = job("alone", 10, exclusive=True, front=True), job("other", 10)
    assert starts(decide([gpu(0), gpu(1)], [alone], [holds("x", 0, size=10)])) == {"alone": ("GPU-1",)}
    decision = decide([gpu(0)], [alone, other])
    assert starts(decision) == {"alone": ("GPU-0",)}
    assert reasons(decision)["other"].message == (
        "needs 10.0 GiB on 1 GPU; best is GPU 0 with 70.0 GiB free, 10.0 GiB promised to job alone, not to be shared"
    )
    wait = reasons(decide([gpu(0)], [alone], [holds("x", 0, size=10)]))["alone"]
    assert (wait.code, wait.waits_for) == (WaitCode.NOT_ENOUGH_FREE_DEVICES, ("x",))


def test_the_policy_may_fill_shared_devices_first() -> None:
    devices, holding = [gpu(0), gpu(1)], [holds("x", 1, size=40)]
    waiting = [job("part", 30), job("whole", 80, priority=-1)]
    assert starts(decide(devices, waiting, holding, policy=PACK)) == {"part": ("GPU-1",), "whole": ("GPU-0",)}


def test_a_whole_host_is_not_broken_up_for_a_small_job_while_a_large_one_may_come() -> None:
    devices = [gpu(i, jobs=1, host=f"host{i // 4}") for i in range(8)]
    waiting = [job("one", 60, priority=1), job("four", 60, devices=4)]
    decision = decide(devices, waiting, [holds("x", 4, size=60)])
    assert starts(decision) == {"one": ("GPU-5",), "four": ("GPU-0", "GPU-1", "GPU-2", "GPU-3")}


def test_devices_that_talk_fast_go_together() -> None:
    pairs = {0: 2, 1: 3, 2: 0, 3: 1}
    devices = [gpu(i, jobs=1, links={pairs[i]: 9}) for i in range(4)]
    assert starts(decide(devices, [job("pair", 60, devices=2)])) == {"pair": ("GPU-0", "GPU-2")}
    assert starts(decide(devices, [job("pair", 60, devices=2)], [holds("x", 0, size=60)])) == {
        "pair": ("GPU-1", "GPU-3")
    }


def test_a_single_job_leaves_fast_pairs_whole() -> None:
    pairs = {0: 1, 1: 0, 2: 3, 3: 2}
    devices = [gpu(i, jobs=1, links={pairs[i]: 9}) for i in range(4)]
    assert starts(decide(devices, [job("one", 60)], [holds("x", 2, size=60)])) == {"one": ("GPU-3",)}


def test_a_device_that_is_not_fit_is_never_used_and_says_why() -> None:
    devices = [gpu(0, unfit="2 double-bit ECC errors"), gpu(1)]
    decision = decide(devices, [job("a", 60), job("b", 60, devices=2)])
    assert starts(decision) == {"a": ("GPU-1",)}
    wait = reasons(decision)["b"]
    assert wait.code is WaitCode.DEVICE_UNFIT
    assert "GPU 0 with 80.0 GiB free, not to be used: 2 double-bit ECC errors" in wait.message


def test_a_job_runs_on_the_models_it_names() -> None:
    assert starts(decide([gpu(0)], [job("a", 10, models=["H100"])])) == {"a": ("GPU-0",)}
    (wait,) = decide([gpu(0)], [job("a", 10, models=["A100"])]).waits
    assert wait.code is WaitCode.DEVICE_MISSING


def test_memory_and_disk_of_the_host_are_promised_too() -> None:
    hosts = [Host("host", Needs(cpu_milli=8000, memory_bytes=gib(64), disk_bytes=gib(100)))]
    holding = [holds("x", 0, size=10, host=Needs(memory_bytes=gib(40), disk_bytes=gib(90)))]
    memory = job("memory", 10, host=Needs(memory_bytes=gib(30)))
    disk = job("disk", 10, host=Needs(disk_bytes=gib(20)))
    cores = job("cores", 10, host=Needs(cpu_milli=9000))
    fits = job("fits", 10, host=Needs(memory_bytes=gib(24), disk_bytes=gib(10)))
    decision = decide([gpu(0), gpu(1)], [memory, disk, cores, fits], holding, hosts=hosts)
    assert set(starts(decision)) == {"fits"}
    found = reasons(decision)
    assert found["memory"].code is WaitCode.NOT_ENOUGH_HOST_MEMORY
    assert found["disk"].code is WaitCode.NOT_ENOUGH_DISK
    assert found["cores"].message.startswith("needs 10.0 GiB on 1 GPU and 9 CPU cores; host has 8 of 8 left")
    assert "30.0 GiB of host memory; host has " in found["memory"].message
    assert found["memory"].waits_for[0] == "x"
