"""How much memory a training step needs on each device: arithmetic on the spec and the model's shape, without torch.

    estimate(workload, config) -> Estimate

A step is looked at in the moments at which its peak can fall (the loss, one layer's backward pass, the end of the
backward pass, the optimizer step, the evaluation); the estimate is the largest, term by term. The formulas give bytes
and follow what torch, transformers, PEFT and TRL allocate, op by op. Pure.

    loss         kept + gradients so far + activations + the head's chunks
    layer        kept + gradients so far + activations + one layer recomputed + its temporaries
    end          kept + all gradients but the last ones + one layer        (full only)
    step         kept + gradients + the optimizer's scratch
    evaluation   kept + one layer's forward pass + the head's chunks
    where kept = weights, adapters, optimizer states, the reference model, the copy that several GPUs exchange
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftsched.activations import Activations, activations
from ftsched.shapes import Shape, shape_of
from ftsched.workload import Workload, trained_parameters

# What a process holds besides tensors: the CUDA context, with NCCL's buffers where there are several GPUs; on a CPU the
# interpreter with the training libraries, 0.9 GiB as measured, and what the allocator and a mapped weights file keep.
GPU_CONTEXT = int(0.9 * 2**30)
GPU_CONTEXT_SEVERAL = int(3.5 * 2**30)
CPU_CONTEXT = int(1.5 * 2**30)
MARGIN_BYTES = 2**28
# Half-widths: what known shapes missed measured peaks by on one GPU, what is derived and not measured, what an unknown
# shape may miss. The margin is the half-width, so that what is reserved is the upper edge.
MEASURED, DERIVED, ON_CPU, UNKNOWN = 0.05, 0.10, 0.20, 0.35
# TRL's head works on so many tokens and so much of the vocabulary at a time.
HEAD_TOKENS = 4096
HEAD_VOCABULARY = 32768

# State, and scratch during the update, per trained parameter: (times the bytes of its format, plus bytes).
_OPTIMIZERS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "adamw_torch_fused": ((2, 0), (0, 0)),
    "adamw_torch": ((2, 0), (1, 0)),
    "adamw_8bit": ((0, 2.03), (0, 0)),
    "paged_adamw_8bit": ((0, 2.03), (0, 0)),
    "paged_adamw_32bit": ((0, 8), (0, 0)),
    "adafactor": ((0, 0.01), (0, 4)),
    "sgd": ((0, 0), (0, 0)),
}
_NOTES = {
    "weights": "as loaded",
    "saved activations": "kept for the backward pass",
    "one layer": "at work, with its temporaries",
    "loss and head": "the head in chunks, never all logits",
    "gradients of all processes": "a second copy that is exchanged",
    "reference model": "a frozen copy",
}


@dataclass(frozen=True, slots=True)
class Term:
    """A part of what is reserved."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The peak that torch allocates on each device, and what to reserve for it, of which `terms` are the parts."""

    terms: tuple[Term, ...]
    peak_bytes: int
    reserve_bytes: int
    moment: str
    uncertainty: float
    basis: str


Parts = dict[str, float]


def estimate(work: Workload, config: Mapping[str, Any]) -> Estimate:
    """The estimate of one training. Raises NotAModel if the config does not describe a decoder."""
    shape = shape_of(config)
    moments = _moments(work, shape, activations(work, shape))
    moment, largest = max(moments, key=lambda each: sum(each[1].values()))
    parts = {name: int(size) for name, size in largest.items() if size >= 1}
    peak = sum(parts.values())
    uncertainty = _uncertainty(work, shape)
    margin, context = int(uncertainty * peak) + MARGIN_BYTES, _context(work)
    terms = [Term(name, size, _NOTES.get(name, "")) for name, size in sorted(parts.items(), key=lambda p: -p[1])]
    terms += [
        Term("context", context, "CUDA" if work.device == "gpu" else "the interpreter and its libraries"),
        Term("margin", margin, "for what the arithmetic does not see"),
    ]
    known = "arithmetic for" if shape.known else "arithmetic of a common decoder, since this is not known:"
    return Estimate(
        terms=tuple(terms),
        peak_bytes=peak,
        reserve_bytes=peak + context + margin,
        moment=moment,
        uncertainty=uncertainty,
        basis=f"{known} {shape.model_type}",
    )


def _context(work: Workload) -> int:
    if work.device == "cpu":
        return CPU_CONTEXT
    return GPU_CONTEXT if work.gpus == 1 else GPU_CONTEXT_SEVERAL


def _uncertainty(work: Workload, shape: Shape) -> float:
    if not shape.known:
        return UNKNOWN
    if work.device == "cpu":
        return ON_CPU
    derived = work.stage == "dpo" or work.method == "freeze" or work.dora or work.saved_modules or work.gpus > 1
    return DERIVED if derived or work.optimizer == "adafactor" else MEASURED


def _moments(work: Workload, shape: Shape, saved: Activations) -> list[tuple[str, Parts]]:
    """The parts of each moment at which the peak can fall."""
    trained = trained_parameters(work, shape)
    gradients = trained * work.trained_bytes
    (state_times, state), (scratch_times, scratch) = _OPTIMIZERS[work.optimizer]
    kept: Parts = {
        "weights": _weights(work, shape),
        "adapters": trained * work.trained_bytes if work.adapts else 0,
        "optimizer states": trained * (state_times * work.trained_bytes + state),
        "gradients of all processes": gradients if work.gpus > 1 else 0,
        "reference model": shape.parameters * work.weight_bytes if work.stage == "dpo" and not work.adapts else 0,
    }
    # Without accumulation the gradients of earlier layers are gone; the head's comes first in the backward pass.
    before = gradients if work.accumulates else 0
    head = shape.embedding * work.trained_bytes if work.method == "full" else 0
    forward: Parts = {**kept, "saved activations": saved.total}
    one_layer = saved.temporaries + (saved.layer if work.recompute else 0)
    held: Parts = {"held logits": work.held_logit_bytes * work.tokens * shape.vocabulary}
    moments: list[tuple[str, Parts]] = [
        ("loss", {**forward, "gradients": before, "loss and head": _loss(work, shape)}),
        ("layer", {**forward, **held, "gradients": before or head, "one layer": one_layer}),
        ("step", {**kept, "gradients": gradients, "scratch": trained * (scratch_times * work.trained_bytes + scratch)}),
        ("evaluation", {**kept, **_forward(work, shape, work.eval_micro_batch)}),
    ]
    if work.method == "full":
        moments += [("end", {**kept, **held, **part}) for part in _ends(work, shape, saved, gradients)]
    if work.stage == "dpo" and work.adapts:
        # The reference is the model with its adapters off; its forward pass runs while the policy's activations live.
        moments.append(("loss", {**forward, "gradients": before, **_forward(work, shape, work.micro_batch)}))
    return moments


def _weights(work: Workload, shape: Shape) -> float:
    """The base model. bitsandbytes leaves embeddings, head, norms and fused experts as they are."""
    if work.method != "qlora":
        return shape.parameters * work.weight_bytes
    per_weight = 0.5 + 1 / 64 + 4 / 16384 if work.double_quant else 0.5625
    quantised = shape.linear_weights
    return quantised * per_weight + (shape.parameters - quantised) * work.weight_bytes


def _loss(work: Workload, shape: Shape) -> float:
    """At the start of the backward pass: the last hidden states, and the head on one chunk of scored tokens."""
    tokens, hidden, stream, c = work.tokens, shape.hidden, work.weight_bytes, work.compute_bytes
    trains_head = work.method == "full"
    head_copy = hidden * c if work.autocast and stream == 4 else 0
    norm = stream if shape.family.layer_norm else 4
    if work.logit_bytes:
        last = tokens * (norm + (stream + c if trains_head else 0)) * hidden
        return last + work.logit_bytes * tokens * shape.vocabulary + head_copy * shape.vocabulary
    trained_norm = 4 if shape.family.fp32_norms else stream
    size: float = tokens * (norm + stream + (trained_norm if trains_head else 0)) * hidden
    # The first token of a row predicts nothing before it.
    scored = max(1, tokens - work.rows)
    size += scored * (stream + 4) * hidden + _chunks(work, shape, scored)
    if trains_head:
        size += (4 + (2 if work.trained_bytes == 2 else 0)) * shape.embedding
    else:
        size += stream * scored * hidden
    return size + head_copy * min(shape.vocabulary, HEAD_VOCABULARY)


def _chunks(work: Workload, shape: Shape, tokens: int) -> int:
    """The logits of one chunk. Without Triton plain operations fold it, and make fp32 copies."""
    chunk = min(tokens, HEAD_TOKENS) * min(shape.vocabulary, HEAD_VOCABULARY)
    if work.device == "gpu":
        return chunk * work.compute_bytes
    return chunk * 4 * (6 if work.method == "full" else 3)


def _ends(work: Workload, shape: Shape, saved: Activations, gradients: int) -> list[Parts]:
    """The last layer's backward pass, when all gradients but its own are there; and the embedding's after it."""
    b, stream = work.trained_bytes, work.weight_bytes * shape.hidden * work.tokens
    missing = b * (shape.layer_weights - shape.matrices[-1].size) + (0 if shape.tied else b * shape.embedding)
    layer = saved.layer + saved.temporaries + (stream if work.recompute else 0)
    embedding = stream + (2 * b * shape.embedding if shape.tied else 0)
    return [
        {"gradients": gradients - missing, "one layer": layer},
        {"gradients": gradients, "one layer": embedding},
    ]


def _forward(work: Workload, shape: Shape, micro_batch: int) -> Parts:
    """A forward pass without gradients, at its last layer and head."""
    rows = micro_batch * (2 if work.stage == "dpo" else 1)
    tokens, c = rows * work.sequence, work.compute_bytes
    inner = shape.experts.active * shape.experts.width if shape.experts else shape.intermediate
    hidden_states = tokens * (4 + 2 * work.weight_bytes) * shape.hidden
    return {
        "one layer": tokens * (6 * shape.hidden + 3 * c * inner),
        "loss and head": hidden_states + _chunks(work, shape, tokens),
    }
