"""A job that no device could ever hold says so with numbers, and holds nobody up."""

from __future__ import annotations

import pytest
from tests.support.fleet import cpu, decide, gpu, job, starts

from ftsched.model import Device, WaitCode, Waiting


@pytest.mark.parametrize(
    ("devices", "asked", "message"),
    [
        (
            [gpu(0), gpu(1, total=24)],
            job("a", 90),
            "needs 90.0 GiB on 1 GPU; of 2 GPUs 0 can ever hold that, the largest is GPU 0 with 80.0 GiB",
        ),
        (
            [gpu(0), gpu(1, total=24)],
            job("a", 40, devices=2),
            "needs 40.0 GiB on each of 2 GPUs; of 2 GPUs 1 can ever hold that, the largest is GPU 0 with 80.0 GiB",
        ),
        (
            [gpu(0)],
            job("a", 10, pinned=[3]),
            "needs 10.0 GiB on 1 GPU, pinned to GPU-3; the host has no device GPU-3",
        ),
        ([cpu()], job("a", 10), "needs 10.0 GiB on 1 GPU; there is no GPU"),
        (
            [cpu(total=8)],
            job("a", 10, on="cpu"),
            "needs 10.0 GiB on the CPU; of 1 CPU 0 can ever hold that, the largest is the CPU with 8.0 GiB",
        ),
    ],
    ids=["too large", "too few large ones", "pinned one gone", "no GPU", "small host"],
)
def test_the_reason_says_what_there_is(devices: list[Device], asked: Waiting, message: str) -> None:
    (wait,) = decide(devices, [asked]).waits
    assert (wait.code, wait.message, wait.waits_for) == (WaitCode.DEVICE_MISSING, message, ())


def test_it_holds_nobody_up() -> None:
    decision = decide([gpu(0)], [job("impossible", 90, age=100), job("next", 60)])
    assert starts(decision) == {"next": ("GPU-0",)}


def test_a_need_just_over_what_there_is_does_not_read_as_if_it_fitted() -> None:
    (wait,) = decide([gpu(0, total=80)], [job("a", 80.01)]).waits
    assert "needs 80.1 GiB" in wait.message
    assert "with 80.0 GiB" in wait.message
