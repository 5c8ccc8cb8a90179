"""What the forward pass keeps for the backward pass, and what one layer's backward pass needs besides. Pure.

The names of the formulas: h hidden, i intermediate, q query, g group width; c bytes of the arithmetic, r bytes of the
residual stream. All in bytes per layer and token unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ftsched.shapes import Experts, Matrix, Reads, Shape
from ftsched.trained import adapter_parameters, adapts_attention_only, adapts_experts, targeted
from ftsched.workload import Workload


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes: kept over the whole model, kept by one layer, and the temporaries while one layer runs backward.

    `copies` are the 16-bit copies of trained weights that stand until the forward pass ends, whatever is recomputed.
    """

    total: int
    layer: int
    temporaries: int
    copies: int


def activations(work: Workload, shape: Shape) -> Activations:
    """The activations of one micro-batch."""
    tokens, h, r = work.tokens, shape.hidden, work.stream_bytes
    per_token = _norms(work, shape) + _attention(work, shape) + _mlp(work, shape) + _inputs(work, shape)
    layer = tokens * per_token + _copies(work, shape)
    # Nothing is kept for layers below the first trained one.
    from_the_top = work.method == "freeze" and not (work.adapter.first_layers or work.adapter.extra_modules)
    layers = work.trained_layers if from_the_top else shape.layers
    if work.recompute:
        total = layers * tokens * r * h
        layer -= 4 * h * tokens if r == 4 else 0
    else:
        # The first norm needs no gradient where only adapters move.
        total = layers * layer - (4 * h * tokens if work.adapts else 0)
    return Activations(total, layer, _temporaries(work, shape), _cached_copies(work, shape) if work.recompute else 0)


def _norms(work: Workload, shape: Shape) -> int:
    h, r, c, family = shape.hidden, work.stream_bytes, work.compute_bytes, shape.family
    if family.layer_norm:
        # Autocast runs LayerNorm in fp32 on a GPU, so that each norm has its own copy of what it reads.
        if work.autocast and work.device == "gpu":
            return family.norms * 4 * h
        return (1 if family.parallel else family.norms) * r * h
    if work.fused_norms and work.trains_norms:
        # What the first one reads is the layer's input, which is kept anyway.
        return (family.norms - 1) * r * h
    trained = 4 if family.fp32_norms else r
    size = family.norms * (4 + (trained if work.trains_norms else 0)) * h
    if family.qk_norm:
        trained = 4 if family.fp32_norms else c
        size += (4 + (trained if work.trains_norms else 0)) * (shape.query + shape.group)
    return size


def _attention(work: Workload, shape: Shape) -> int:
    c, q, g = work.compute_bytes, shape.query, shape.group
    size = c * (2 * q + 2 * g) + 4 * shape.heads
    if shape.family.keeps_fused:
        size += c * (q + g) + (0 if work.adapts else c * q)
    kernel = work.kernel(shape)
    if kernel == "flash":
        return size + (2 * c * (q - g) if work.expands_heads else 0)
    # How far a token looks: packed rows make one long row.
    span = work.tokens if work.packed else work.sequence
    return size + 2 * c * (q - g) + (6 * shape.heads if kernel == "eager" else c) * span


def _mlp(work: Workload, shape: Shape) -> int:
    c, i, experts = _output_bytes(work, shape), shape.intermediate, shape.experts
    if experts is not None:
        return _expert_mlp(work, shape, experts)
    masks = 2 * shape.hidden if shape.family.drops else 0
    if _widens_gelu(work, shape):
        # Autocast raises to a power in fp32, and what is made of that stays fp32.
        return (3 * 4 + c) * i + masks
    return c * i * {"gated": 3, "gelu": 1, "gelu_new": 4}[shape.family.mlp] + masks


def _widens_gelu(work: Workload, shape: Shape) -> bool:
    """Whether a GELU that is written out is computed in fp32 on the way."""
    return shape.family.mlp == "gelu_new" and work.autocast and work.device == "gpu"


def _output_bytes(work: Workload, shape: Shape) -> int:
    """Bytes of a number that a linear layer makes.

    A 4-bit layer answers in the format it was asked in, and what autocast's LayerNorm makes is fp32.
    """
    wide = work.method == "qlora" and work.autocast and shape.family.layer_norm and work.device == "gpu"
    return 4 if wide else work.compute_bytes


def _expert_mlp(work: Workload, shape: Shape, experts: Experts) -> int:
    c, h = work.compute_bytes, shape.hidden
    trained = not work.adapts or adapts_experts(work, shape)
    each = c * (4 * experts.width + 2 * h if trained else 3 * experts.width + h)
    shared = 3 * c * experts.shared_width + c * h if experts.shared_width else 0
    return experts.active * each + shared


def _inputs(work: Workload, shape: Shape) -> int:
    """What the linear layers, or the adapters beside them, keep of what they read."""
    if work.adapts:
        kept = _shared(shape.matrices, shape) if work.keeps_quantised_inputs else {}
        return _adapter_inputs(work, shape) + work.compute_bytes * sum(kept.values())
    c, h, family = work.compute_bytes, shape.hidden, shape.family
    # What is not in the arithmetic's format is cast by each layer that reads it.
    fp32 = work.stream_bytes == 4 or (family.layer_norm and work.device == "gpu")
    if shape.experts is not None:
        return c * ((5 if work.autocast and fp32 else 2) * h + shape.experts.shared_width)
    # The attention keeps its output anyway.
    reading = [each for each in shape.matrices if each.reads is not Reads.ATTENTION_OUTPUT]
    if work.autocast and fp32:
        return c * sum(each.inputs for each in reading)
    return c * sum(_shared(reading, shape).values())


def _shared(reading: Iterable[Matrix], shape: Shape) -> dict[Reads, int]:
    """The tensors that these layers read, each once, with their widths."""
    shared = {each.reads: each.inputs for each in reading}
    if shape.family.norms == 1 and Reads.ATTENTION_INPUT in shared:
        # One norm for attention and MLP.
        shared.pop(Reads.MLP_INPUT, None)
    return shared


def _adapter_inputs(work: Workload, shape: Shape) -> int:
    c, adapted = work.compute_bytes, targeted(work, shape)
    if work.fused_adapters:
        # One kernel reads the attention's input in the adapters' format, and makes the products of low rank again.
        alone = [each for each in adapted if each.reads is not Reads.ATTENTION_INPUT]
        return work.adapter_bytes * shape.hidden + c * (sum(each.inputs for each in alone) + work.rank * len(alone))
    ranks = work.rank * len(adapted) + _beside_ranks(work, adapted)
    if work.dropout:
        return sum((c + 1) * each.inputs for each in adapted) + c * ranks
    if work.adapter_bytes == 4 and (work.autocast or c == 2):
        # Each adapter casts what it reads: to 16 bits under autocast, to its own fp32 without.
        size = c if work.autocast else 4
        return size * (sum(each.inputs for each in adapted) + ranks)
    # In one format, those that read the same tensor share it, and the attention keeps its own output anyway.
    shared = _shared(adapted, shape)
    if not shape.family.fused:
        shared.pop(Reads.ATTENTION_OUTPUT, None)
    return c * (sum(shared.values()) + ranks)


def _beside_ranks(work: Workload, adapted: Iterable[Matrix]) -> int:
    """Numbers that other methods keep of a token beside what a module reads: what is scaled."""
    match work.method:
        case "adalora":
            return work.rank
        case "vera" | "ia3":
            return sum(each.outputs for each in adapted)
        case "oft":
            return sum(each.inputs for each in adapted)
        case _:
            return 0


def _copies(work: Workload, shape: Shape) -> int:
    """16-bit copies of fp32 weights that autocast makes, bytes per layer; and merged experts."""
    c = work.compute_bytes
    size = 0
    if work.autocast and work.weight_bytes == 4 and work.method != "qlora" and not work.gathers:
        size += c * shape.layer_weights
    if work.autocast and work.adapts and work.adapter_bytes == 4:
        size += c * adapter_parameters(work, shape)
    if work.method == "boft":
        # The rotation of each module, and its weights rotated and then scaled.
        size += c * sum((2 + work.adapter.factors) * each.inputs**2 + 2 * each.size for each in targeted(work, shape))
    if adapts_experts(work, shape) and shape.experts is not None:
        size += c * shape.experts.weights(shape.hidden)
    return size


def _cached_copies(work: Workload, shape: Shape) -> int:
    """Autocast keeps the copy of each trained fp32 weight until it is left: all layers' are there with the head's."""
    if not work.autocast or work.gathers or work.trained_bytes != 4:
        return 0
    if work.adapts:
        return work.compute_bytes * shape.layers * adapter_parameters(work, shape)
    trained = work.trained_layers * shape.layer_weights if work.method == "freeze" else shape.linear_weights
    return work.compute_bytes * (trained + (shape.embedding if work.trains_head else 0))


def _temporaries(work: Workload, shape: Shape) -> int:
    """Bytes while one layer runs backward, over all tokens."""
    h, c = shape.hidden, work.compute_bytes
    i = shape.experts.active * shape.experts.width if shape.experts else shape.intermediate
    if not work.adapts:
        per_token = 4 * h + 2 * c * i
    elif work.adapter_bytes == c:
        made = _output_bytes(work, shape)
        written_out = made == 4 and shape.family.mlp == "gelu_new"
        per_token = c * h + (3 if written_out else 2) * made * i
    elif adapts_attention_only(work, shape):
        per_token = max(2 * h + 3 * c * i, 8 * h + 2 * c * i)
    elif work.autocast:
        per_token = (14 if work.stream_bytes == 4 else 10) * h + 3 * c * i
    else:
        per_token = 12 * h + 2 * c * i
    if _widens_gelu(work, shape) and _output_bytes(work, shape) == c:
        per_token += c * i
    size = work.tokens * per_token
    # A whole matrix, while some of the rest is gone: gate and up in one matrix come after both were used.
    fused_gate = shape.family.mlp == "gated" and len(shape.family.mlp_names) == 2
    matrix = max(dequantised_bytes(work, shape), _merged_gradient(work, shape))
    return max(size, size - (2 if fused_gate else 1) * c * i * work.tokens + matrix)


def _merged_gradient(work: Workload, shape: Shape) -> int:
    """The gradient of one of the three matrices of adapted experts, which are merged with their adapters."""
    if shape.experts is None or not adapts_experts(work, shape):
        return 0
    return work.compute_bytes * shape.experts.weights(shape.hidden) // 3


def dequantised_bytes(work: Workload, shape: Shape) -> int:
    """The largest matrix in 16 bits, if weights are quantised: one at a time is."""
    return 2 * max(each.size for each in shape.matrices) if work.method == "qlora" else 0
