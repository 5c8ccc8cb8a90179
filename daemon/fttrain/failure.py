"""Why a rank failed, in the classes of the public API, each with what to change.

`Refused` is raised where our own code knows the class; `classify` tells it for whatever else was raised. It must
never import torch: a preparation and a rank that failed early classify without it, so torch's errors are known by name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from finetuned.v1 import event_pb2

_LONGEST_MESSAGE = 500

_ADVICE = {
    event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY: (
        "lower batch.micro_batch or data.max_length, set compute.gradient_checkpointing, or use the method qlora"
    ),
    event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY: (
        "lower batch.micro_batch or data.max_length, use a smaller model, or free memory on the host"
    ),
    event_pb2.FAILURE_CLASS_DISK_FULL: "free space below the daemon's state directory, then retry the job",
    event_pb2.FAILURE_CLASS_LOSS_DIVERGED: "lower optimizer.learning_rate, add warmup, or look for broken rows",
    event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT: (
        "another process of the job hung or ended; its log lines say why, then retry the job"
    ),
    event_pb2.FAILURE_CLASS_INTERNAL: "the job's log holds the traceback; report it if the spec is not to blame",
}

# Phrases of errors that carry no class of their own; torch raises most of these as plain RuntimeErrors.
_PHRASES = (
    ("CUDA out of memory", event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY),
    ("CUDA error: out of memory", event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY),
    ("CUBLAS_STATUS_ALLOC_FAILED", event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY),
    ("DefaultCPUAllocator: can't allocate memory", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY),
    ("DefaultCPUAllocator: not enough memory", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY),
    ("std::bad_alloc", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY),
    ("Cannot allocate memory", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY),
    # There is no room for its stack.
    ("can't start new thread", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY),
    ("No space left on device", event_pb2.FAILURE_CLASS_DISK_FULL),
    ("PytorchStreamWriter failed writing file", event_pb2.FAILURE_CLASS_DISK_FULL),
    ("Timed out waiting", event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT),
    ("Connection closed by peer", event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT),
    ("Watchdog caught collective operation timeout", event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT),
)

_TYPES = {
    "OutOfMemoryError": event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY,
    "MemoryError": event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY,
    "FloatingPointError": event_pb2.FAILURE_CLASS_LOSS_DIVERGED,
    "DistBackendError": event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT,
    "DistStoreError": event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT,
    "DistNetworkError": event_pb2.FAILURE_CLASS_COLLECTIVE_TIMEOUT,
}


class Refused(Exception):
    """A failure whose class is known where it is raised: one line of what happened, one of what to change."""

    def __init__(self, failure_class: event_pb2.FailureClass.ValueType, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.message = message
        self.advice = advice or _ADVICE.get(failure_class, "")


def classify(error: BaseException, rank: int) -> event_pb2.Failure:
    """The failure that `error` means. The class is that of the first error in its chain of causes that has one."""
    for link in _chain(error):
        if isinstance(link, Refused):
            return event_pb2.Failure(
                failure_class=link.failure_class, message=_one_line(link.message), advice=link.advice, rank=rank
            )
        failure_class = _class_of(link)
        if failure_class is not None:
            return _failure(failure_class, link, rank)
    return _failure(event_pb2.FAILURE_CLASS_INTERNAL, error, rank)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _class_of(error: BaseException) -> event_pb2.FailureClass.ValueType | None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return event_pb2.FAILURE_CLASS_DISK_FULL
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY
    for base in type(error).__mro__:
        if base.__name__ in _TYPES:
            return _TYPES[base.__name__]
    text = str(error)
    return next((failure_class for phrase, failure_class in _PHRASES if phrase in text), None)


def _failure(failure_class: event_pb2.FailureClass.ValueType, error: BaseException, rank: int) -> event_pb2.Failure:
    text = _one_line(str(error))
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return event_pb2.Failure(failure_class=failure_class, message=message, advice=_ADVICE[failure_class], rank=rank)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
