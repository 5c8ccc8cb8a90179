"""What the forward pass keeps for the backward pass, and what one layer's backward pass needs besides. Pure.

The names of the formulas: H hidden, I intermediate, q query, g group width, S sequence, T tokens; c bytes of the
arithmetic, r bytes of the residual stream. All per layer and token unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftsched.shapes import Shape
from ftsched.workload import Workload, targeted, trained_parameters


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes: kept over the whole model, kept by one layer, and the temporaries while one layer runs backward."""

    total: float
    layer: float
    temporaries: float


def activations(work: Workload, shape: Shape) -> Activations:
    """The activations of one micro-batch."""
    tokens, layers = work.tokens, shape.layers
    adapters = trained_parameters(work, shape) // layers if work.adapts else 0
    adapted = targeted(work, shape) if work.adapts else ()
    per_token: float = _norms(work, shape) + _attention(work, shape) + _mlp(work, shape)
    per_token += _inputs(work, shape, [(each.inputs, each.name) for each in adapted])
    layer: float = tokens * per_token + _copies(work, shape, adapters)
    # The first norm of a layer needs no gradient where only adapters move.
    unneeded = 4 * shape.hidden * tokens if work.adapts else 0
    if work.recompute:
        total: float = layers * tokens * work.weight_bytes * shape.hidden
        layer -= 4 * shape.hidden * tokens if work.weight_bytes == 4 else 0
    else:
        trained = work.trained_layers if work.method == "freeze" else layers
        total = trained * layer - unneeded
    return Activations(total, layer, _temporaries(work, shape, bool(adapted)))


def _norms(work: Workload, shape: Shape) -> float:
    h, r, family = shape.hidden, work.weight_bytes, shape.family
    if family.layer_norm:
        return 2 * (4 if work.autocast and work.device == "gpu" else r) * h
    size = family.norms * 4 * h + (0 if work.adapts else family.norms * r * h)
    if family.qk_norm:
        both = shape.query + shape.group
        size += 4 * both + (0 if work.adapts else work.compute_bytes * both)
    return size


def _attention(work: Workload, shape: Shape) -> float:
    c, q, g = work.compute_bytes, shape.query, shape.group
    size = c * (2 * q + 2 * g) + 4 * shape.heads
    if shape.family.fused:
        size += c * (q + g) + (0 if work.adapts else c * q)
    if work.attention == "eager":
        return size + 2 * c * (q - g) + 6 * shape.heads * work.sequence
    # Rows of different lengths are padded, and a mask takes the fast path from SDPA.
    if work.attention == "sdpa" and work.rows > 1:
        size += 2 * c * (q - g) + c * work.sequence
    return size


def _mlp(work: Workload, shape: Shape) -> float:
    c, i = work.compute_bytes, shape.intermediate
    if shape.active_experts:
        width, h = shape.expert_width, shape.hidden
        return shape.active_experts * c * (3 * width + h if work.adapts else 4 * width + 2 * h)
    return c * i * {"gated": 3, "gelu": 1, "gelu_new": 4}[shape.family.mlp]


def _inputs(work: Workload, shape: Shape, adapted: list[tuple[int, str]]) -> float:
    """What the linear layers, or the adapters beside them, keep of their inputs."""
    c, h, i = work.compute_bytes, shape.hidden, shape.intermediate
    if not work.adapts:
        copies_each = work.autocast and work.weight_bytes == 4 and not shape.family.fused
        return c * ((5 if copies_each else 2) * h + i)
    ranks = work.rank * len(adapted)
    if work.dropout:
        return sum((c + 1) * inputs for inputs, _ in adapted) + c * ranks
    if work.trained_bytes == 4:
        return c * (sum(inputs for inputs, _ in adapted) + ranks)
    names = " ".join(name for _, name in adapted)
    attends = any(name in names for name in ("q_proj", "k_proj", "v_proj", "qkv"))
    shared = c * h * (attends + ("gate" in names or "up_" in names))
    if "down_proj" in names:
        shared += c * i
    if shape.family.fused and "o_proj" in names:
        shared += c * shape.query
    return shared + c * ranks


def _copies(work: Workload, shape: Shape, adapters: int) -> float:
    """16-bit copies of fp32 weights that autocast makes, once per layer."""
    if not work.autocast:
        return 0
    size = 2 * shape.layer_weights if work.weight_bytes == 4 and work.method != "qlora" else 0
    return size + (2 * adapters if work.adapts and work.trained_bytes == 4 else 0)


def _temporaries(work: Workload, shape: Shape, adapted: bool) -> float:
    h, c = shape.hidden, work.compute_bytes
    i = shape.active_experts * shape.expert_width or shape.intermediate
    if not adapted:
        size = 4 * h + 2 * c * i
    elif work.trained_bytes == 2:
        size = 2 * h + 2 * c * i
    elif work.autocast:
        size = (14 if work.weight_bytes == 4 else 10) * h + 3 * c * i
    else:
        size = 12 * h + 2 * c * i
    bytes_ = work.tokens * size
    if work.method != "qlora":
        return bytes_
    # One dequantised matrix exists at a time.
    return max(bytes_, bytes_ - c * i * work.tokens + 2 * max(each.size for each in shape.matrices))
