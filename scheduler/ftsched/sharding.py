"""How several GPUs divide what a training keeps, and what each of them gathers and exchanges. Pure.

DDP divides nothing and exchanges the gradients from flat copies. ZeRO divides the optimizer states, then the gradients,
then (like FSDP) the parameters too; those are gathered layer by layer for the arithmetic, while what belongs to no
layer (embedding, head, last norm) stays gathered from the first layer to the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ftsched.shapes import Shape
from ftsched.trained import adapter_parameters
from ftsched.workload import Workload

# DeepSpeed reduces gradients in buckets of at most so many bytes.
ZERO_BUCKET = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Division:
    """Into how many parts each kind is divided, infinitely many if the host has it; and bytes that come on top."""

    weights: float = 1
    gradients: float = 1
    states: float = 1
    # Parameters of one layer, and of what belongs to no layer, as the arithmetic reads them.
    gathered_layer: float = 0
    gathered_root: float = 0
    # Gradients of one layer and of the head, before they are divided.
    undivided_gradients: float = 0
    # Gradients of the layers' inputs that stay until the backward pass has ended.
    kept_inputs: float = 0
    # The copy of the gradients that is exchanged.
    exchanged: float = 0


def division(work: Workload, shape: Shape, gradients: float) -> Division:
    """What each of the GPUs holds; `gradients` are the bytes of all of them."""
    n = work.gpus
    if n == 1:
        return Division()
    if not work.gathers:
        bucket = gradients if work.sharding == "ddp" else min(gradients, ZERO_BUCKET)
        states, divided = (1, 1) if work.sharding == "ddp" else (n, n if work.sharding == "zero2" else 1)
        return Division(gradients=divided, states=states, exchanged=bucket)
    layer = _layer(work, shape)
    head = work.compute_bytes * shape.embedding if work.trains_head else 0
    parts = inf if work.offloaded else n
    return Division(
        weights=parts,
        gradients=parts,
        states=parts,
        gathered_layer=layer,
        gathered_root=_root(work, shape),
        undivided_gradients=layer + head if work.method == "full" else 0,
        kept_inputs=_kept_inputs(work, shape),
    )


def _kept_inputs(work: Workload, shape: Shape) -> float:
    """The first FSDP's hooks on layers that are frozen hold the gradient of what each of them read."""
    if work.sharding != "fsdp" or not work.adapts:
        return 0
    return max(0, shape.layers - 2) * work.tokens * work.compute_bytes * shape.hidden


def _layer(work: Workload, shape: Shape) -> float:
    """Bytes of one layer's parameters as the arithmetic reads them."""
    size = work.unit_bytes(shape) * shape.layer_weights
    size += work.compute_bytes * (shape.per_layer - shape.layer_weights)
    return size + work.compute_bytes * adapter_parameters(work, shape)


def _root(work: Workload, shape: Shape) -> float:
    """Bytes of what belongs to no layer."""
    heads = 1 if shape.tied or not work.has_vocabulary_head else 2
    return work.compute_bytes * (heads * shape.embedding + shape.beyond)
