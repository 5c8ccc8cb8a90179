"""The bounds of an attempt: what was promised, less what a process holds besides tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.jobs import fake_job

from ftd.caps import Caps, caps
from ftd.records import Attempt, MemoryEstimate
from ftd.spec import DeviceKind, Resources, TrainingSpec

GIB = 2**30


@pytest.mark.parametrize(
    ("gpus", "device_bytes"),
    [(1, int(20 * GIB) - int(0.9 * GIB)), (2, int(20 * GIB) - int(3.5 * GIB))],
    ids=["one", "with NCCL"],
)
def test_a_gpu_is_bounded_below_its_promise_by_the_context(tmp_path: Path, gpus: int, device_bytes: int) -> None:
    attempt = Attempt(1, ("GPU-a", "GPU-b")[:gpus], 0.0, reserved_bytes=20 * GIB)
    estimate = MemoryEstimate((), 1, 1, "layer", 0.05, 128, "test", host_bytes=6 * GIB)
    training = TrainingSpec(resources=Resources(device=DeviceKind.GPU, gpus=gpus))
    job = fake_job(tmp_path, {}, resolved=training, attempts=(attempt,), estimate=estimate)
    assert caps(job) == Caps(device_bytes, 6 * GIB)


def test_a_job_on_the_cpu_is_bounded_by_its_promise(tmp_path: Path) -> None:
    training = TrainingSpec(resources=Resources(device=DeviceKind.CPU))
    job = fake_job(tmp_path, {}, resolved=training, attempts=(Attempt(1, ("cpu",), 0.0, reserved_bytes=2 * GIB),))
    assert caps(job) == Caps(0, 2 * GIB)


def test_a_promise_smaller_than_a_context_is_still_a_bound(tmp_path: Path) -> None:
    training = TrainingSpec(resources=Resources(device=DeviceKind.GPU, memory_bytes=1))
    job = fake_job(tmp_path, {}, resolved=training, attempts=(Attempt(1, ("GPU-a",), 0.0, reserved_bytes=1),))
    assert caps(job).device_bytes == 1


def test_a_preparation_has_no_bound(tmp_path: Path) -> None:
    assert caps(fake_job(tmp_path, {})) == Caps()
