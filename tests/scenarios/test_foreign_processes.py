"""Processes that are not ours count, are named, and never make an idle device wait for them."""

from __future__ import annotations

from tests.support.fleet import decide, gpu, holds, job, starts

from ftsched.model import WaitCode


def test_the_reason_names_the_process() -> None:
    decision = decide([gpu(2, total=32, foreign=[(4711, "python", 9.6)])], [job("a", 31.2)])
    (wait,) = decision.waits
    assert wait.code is WaitCode.FOREIGN_PROCESS
    assert wait.message == (
        "needs 31.2 GiB on 1 GPU; best is GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours"
    )
    assert wait.waits_for == ()


def test_a_device_without_foreign_processes_is_taken() -> None:
    devices = [gpu(0, foreign=[(1, "x", 60)]), gpu(1)]
    assert starts(decide(devices, [job("a", 40)])) == {"a": ("GPU-1",)}


def test_a_job_that_only_waits_for_strangers_holds_nobody_up() -> None:
    devices = [gpu(0, foreign=[(7, "notebook", 30)])]
    decision = decide(devices, [job("large", 60, age=100), job("small", 40, age=1)])
    assert starts(decision) == {"small": ("GPU-0",)}
    assert decision.waits[0].code is WaitCode.FOREIGN_PROCESS


def test_once_the_stranger_is_gone_the_large_job_is_first_again() -> None:
    small = holds("small", 0, size=40, used={0: 40})
    queue = [job("large", 60, front=True), job("late", 30)]
    decision = decide([gpu(0, used=40)], queue, [small])
    assert starts(decision) == {}
    assert decision.waits[0].waits_for == ("small",)
    assert starts(decide([gpu(0)], queue)) == {"large": ("GPU-0",)}


def test_if_a_job_of_ours_would_do_it_the_stranger_is_named_but_not_blamed() -> None:
    device = gpu(0, used=70, foreign=[(7, "notebook", 30)])
    decision = decide([device], [job("a", 50)], [holds("b", 0, size=40, used={0: 40})])
    (wait,) = decision.waits
    assert wait.code is WaitCode.NOT_ENOUGH_FREE_MEMORY
    assert "30.0 GiB held by pid 7 (notebook), not ours" in wait.message
    assert wait.waits_for == ("b",)
