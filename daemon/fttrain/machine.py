"""What a rank asks of the machine it runs on: the cap on its GPU, its peak memory, agreement between ranks."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
from transformers.utils import logging

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2
from fttrain.failure import Refused, classify
from fttrain.report import Report

# What allocators and threads have mapped for a moment and not used, as it was measured: up to 0.4 GiB.
_UNUSED_BYTES = 512 << 20


def set_up(bootstrap: trainer_pb2.Bootstrap) -> None:
    """Bounds what this process may take. Raises Refused when its GPU cannot be seen."""
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if on_cpu(bootstrap.spec):
        _bound_host_memory(bootstrap.host_cap_bytes)
        return
    if not torch.cuda.is_available():
        raise Refused(
            event_pb2.FAILURE_CLASS_INTERNAL,
            "the job was given a GPU, but torch sees none",
            "check the driver and that torch was installed with CUDA, or set resources.device to cpu",
        )
    if bootstrap.memory_cap_bytes:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(allocator_share(bootstrap.memory_cap_bytes, total), 0)


def _bound_host_memory(cap_bytes: int) -> None:
    """Lets this process take its share of the cap, 0: as much as it likes.

    The kernel counts for RLIMIT_DATA what is mapped to be written, used or not; RLIMIT_AS would count libraries, too.
    So what is mapped and not used by now is added, and some for what will be.
    """
    if not cap_bytes:
        return
    room = cap_bytes // world_size() - _status_bytes("VmRSS")
    limit = _status_bytes("VmData") + room + _UNUSED_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (max(0, limit), resource.RLIM_INFINITY))


def allocator_share(cap_bytes: int, total_bytes: int) -> float:
    """The share of a GPU that torch's allocator may take: it recycles before it grows beyond, and then fails."""
    return min(1.0, cap_bytes / total_bytes)


@contextlib.contextmanager
def told_as_too_little(bootstrap: trainer_pb2.Bootstrap) -> Iterator[None]:
    """Says of a process that ran into its cap on the host's memory what the cap was. Raises Refused."""
    try:
        yield
    except Exception as error:
        out_of_memory = classify(error, rank=0).failure_class == event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY
        if not bootstrap.host_cap_bytes or not out_of_memory:
            raise
        cap = bootstrap.host_cap_bytes / 2**30
        raise Refused(
            event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY,
            f"the training needs more than the {cap:.2f} GiB reserved for it on the host",
        ) from error


@contextlib.contextmanager
def measured(report: Report) -> Iterator[None]:
    """Reports the peak, also of what runs out of memory before anything is told."""
    try:
        yield
    finally:
        report.peak_memory_bytes = max(report.peak_memory_bytes, peak_memory_bytes())


def on_cpu(spec: training_pb2.TrainingSpec) -> bool:
    """Whether the job computes on the CPU."""
    return spec.resources.device == training_pb2.DEVICE_KIND_CPU


def world_size() -> int:
    """Number of ranks; the keeper sets WORLD_SIZE."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def peak_memory_bytes() -> int:
    """Most memory this process has held so far: torch-allocated on a GPU, resident set on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Not getrusage: its maximum is inherited from the process that called exec.
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024


def highest(values: list[float], device: torch.device) -> list[float]:
    """The highest of each value over all ranks; every rank must call it at the same step."""
    if world_size() == 1:
        return values
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return [float(value) for value in shared.tolist()]


def wait_for_all_ranks() -> None:
    """Returns when every rank has come here."""
    if world_size() > 1:
        torch.distributed.barrier()
