"""What a rank asks of the machine it runs on: the cap on its GPU, its peak memory, agreement between ranks."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import torch
from transformers.utils import logging

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2
from fttrain.failure import Refused


def set_up(bootstrap: trainer_pb2.Bootstrap) -> None:
    """Bounds what this process may take. Raises Refused when its GPU cannot be seen."""
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if on_cpu(bootstrap.spec):
        return
    if not torch.cuda.is_available():
        raise Refused(
            event_pb2.FAILURE_CLASS_INTERNAL,
            "the job was given a GPU, but torch sees none",
            "check the driver and that torch was installed with CUDA, or set resources.device to cpu",
        )
    if bootstrap.memory_cap_bytes:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, bootstrap.memory_cap_bytes / total), 0)


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
    status = Path("/proc/self/status").read_text()
    high_water = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(high_water.split()[1]) * 1024


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
