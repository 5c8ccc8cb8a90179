"""What a training writes to the disk: its checkpoints and its output, in bytes. Pure."""

from __future__ import annotations

from ftsched.optimizers import optimizer_bytes
from ftsched.shapes import Shape
from ftsched.trained import model_parameters, trained_parameters
from ftsched.workload import Workload

# Tokenizer, configuration, random states, trainer's state, manifest.
OTHER_FILES = 32 * 2**20


def checkpoint_bytes(work: Workload, shape: Shape) -> int:
    """One checkpoint: the weights that a resumed run needs and the optimizer's states of all ranks."""
    states, _ = optimizer_bytes(work, shape, trained_parameters(work, shape))
    return output_bytes(work, shape) + int(states)


def output_bytes(work: Workload, shape: Shape) -> int:
    """The result: the adapter, or the whole model; of a model that is only used its figures."""
    if work.adapts:
        return trained_parameters(work, shape) * work.adapter_bytes + OTHER_FILES
    return model_parameters(work, shape) * work.weight_bytes + OTHER_FILES


def disk_bytes(work: Workload, shape: Shape, kept: int, exported: float = 0) -> int:
    """All at once: `kept` checkpoints, the new one that is written before the oldest goes, and the output.

    `exported`: bytes that are written of each parameter beside the adapter or model, as merged or in other formats.
    """
    beside = int(exported * model_parameters(work, shape))
    if not work.trains:
        return output_bytes(work, shape) + beside
    return (kept + 1) * checkpoint_bytes(work, shape) + output_bytes(work, shape) + beside
