"""Exceptions become failure classes with one line of message and one of advice."""

from __future__ import annotations

import errno

import pytest

from finetuned.v1 import event_pb2
from fttrain.failure import Refused, classify


class OutOfMemoryError(RuntimeError):
    """Stands for torch.OutOfMemoryError, which is known by its name so that torch need not be imported."""


class DistBackendError(RuntimeError):
    """Stands for torch.distributed.DistBackendError."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "OUT_OF_GPU_MEMORY"),
        (RuntimeError("CUDA error: out of memory"), "OUT_OF_GPU_MEMORY"),
        (MemoryError(), "OUT_OF_HOST_MEMORY"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OUT_OF_HOST_MEMORY"),
        (RuntimeError("std::bad_alloc"), "OUT_OF_HOST_MEMORY"),
        (RuntimeError("can't start new thread"), "OUT_OF_HOST_MEMORY"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), "OUT_OF_HOST_MEMORY"),
        (OSError(errno.ENOSPC, "No space left on device"), "DISK_FULL"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "DISK_FULL"),
        (ValueError("I/O error: No space left on device (os error 28)"), "DISK_FULL"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "DISK_FULL"),
        (FloatingPointError("nan"), "LOSS_DIVERGED"),
        (DistBackendError("NCCL error"), "COLLECTIVE_TIMEOUT"),
        (RuntimeError("[gloo] Timed out waiting 1800000ms for recv operation"), "COLLECTIVE_TIMEOUT"),
        (OSError(errno.ENOENT, "No such file"), "INTERNAL"),
        (SystemExit(3), "INTERNAL"),
    ],
    ids=str,
)
def test_classes(error: BaseException, expected: str) -> None:
    failure = classify(error, rank=1)
    assert event_pb2.FailureClass.Name(failure.failure_class) == f"FAILURE_CLASS_{expected}"
    assert failure.rank == 1
    assert failure.message.startswith(type(error).__name__)
    assert failure.advice


def test_a_cause_tells_the_class_that_its_wrapper_hides() -> None:
    wrapper = RuntimeError("could not save")
    wrapper.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert classify(wrapper, 0).failure_class == event_pb2.FAILURE_CLASS_DISK_FULL


def test_a_refusal_keeps_its_own_words() -> None:
    refused = Refused(event_pb2.FAILURE_CLASS_MODEL_LOAD, "no config.json", "look there")
    failure = classify(refused, 2)
    assert (failure.failure_class, failure.message, failure.advice, failure.rank) == (
        event_pb2.FAILURE_CLASS_MODEL_LOAD,
        "no config.json",
        "look there",
        2,
    )


def test_a_refusal_without_advice_gets_that_of_its_class() -> None:
    assert "learning_rate" in Refused(event_pb2.FAILURE_CLASS_LOSS_DIVERGED, "nan").advice


def test_a_message_is_one_bounded_line() -> None:
    message = classify(ValueError("first\n  second" + "x" * 1000), 0).message
    assert message.startswith("ValueError: first second")
    assert len(message) < 550
