"""How much memory a training step needs on each device: arithmetic on the spec and the model's shape, without torch.

    estimate(workload, config) -> Estimate

Every formula gives bytes. A step is looked at in the moments at which its peak can fall (the loss, one layer's backward
pass, the end of the backward pass, the optimizer step, the evaluation); the estimate is the largest, term by term. The
formulas follow what torch, transformers, PEFT and TRL allocate; they assume TRL's loss, which applies the head in
chunks and never holds all logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftsched.activations import Activations, activations
from ftsched.shapes import Shape, shape_of
from ftsched.workload import Workload, trained_parameters

# What a process holds before it has a tensor: the CUDA context, with NCCL's buffers where there are several GPUs; on a
# CPU the interpreter with the training libraries.
GPU_CONTEXT = int(0.9 * 2**30)
GPU_CONTEXT_SEVERAL = int(3.5 * 2**30)
CPU_CONTEXT = int(1.0 * 2**30)
MARGIN_SHARE = 0.05
MARGIN_BYTES = 2**28
# Half-widths: what known shapes missed measured peaks by, and what an unknown shape may.
UNCERTAINTY = 0.03
UNCERTAINTY_SEVERAL = 0.08
UNCERTAINTY_CPU = 0.20
UNCERTAINTY_UNKNOWN = 0.35
# TRL's head works on so many tokens and so much of the vocabulary at a time.
HEAD_TOKENS = 4096
HEAD_VOCABULARY = 32768

# Bytes of state, and of scratch during the update, per trained parameter and per byte of its format (`b`) or flat.
_OPTIMIZERS: dict[str, tuple[float, float, float, float]] = {
    # name: (state per b, state flat, scratch per b, scratch flat)
    "adamw_torch_fused": (2, 0, 0, 0),
    "adamw_torch": (2, 0, 1, 0),
    "adamw_8bit": (0, 2.03, 0, 0),
    "paged_adamw_8bit": (0, 2.03, 0, 0),
    "paged_adamw_32bit": (0, 8, 0, 0),
    "adafactor": (0, 0.01, 0, 4),
    "sgd": (0, 0, 0, 0),
}


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the peak."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The peak that torch allocates on each device, its parts, and what to reserve for it."""

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
    saved = activations(work, shape)
    moments = _moments(work, shape, saved)
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts = {name: int(size) for name, size in moments[moment].items() if size >= 1}
    peak = sum(parts.values())
    context = CPU_CONTEXT if work.device == "cpu" else GPU_CONTEXT if work.gpus == 1 else GPU_CONTEXT_SEVERAL
    uncertainty = _uncertainty(work, shape)
    margin = int(max(MARGIN_SHARE, uncertainty if uncertainty > UNCERTAINTY_SEVERAL else 0) * peak) + MARGIN_BYTES
    terms = [Term(name, size, _NOTES.get(name, "")) for name, size in sorted(parts.items(), key=lambda p: -p[1])]
    terms += [
        Term("context", context, "the interpreter and its libraries" if work.device == "cpu" else "CUDA"),
        Term("margin", margin, "for what the arithmetic does not see"),
    ]
    known = "arithmetic for" if shape.known else "arithmetic of a common decoder, since this is not known:"
    return Estimate(tuple(terms), peak, peak + context + margin, moment, uncertainty, f"{known} {shape.model_type}")


_NOTES = {
    "weights": "as loaded",
    "saved activations": "kept for the backward pass",
    "one layer": "recomputed and its temporaries",
    "loss and head": "in chunks; all logits are never there at once",
    "gradients of all processes": "a second copy that is exchanged",
    "reference model": "a frozen copy",
}


def _uncertainty(work: Workload, shape: Shape) -> float:
    if not shape.known:
        return UNCERTAINTY_UNKNOWN
    if work.device == "cpu":
        return UNCERTAINTY_CPU
    return UNCERTAINTY if work.gpus == 1 else UNCERTAINTY_SEVERAL


def _moments(work: Workload, shape: Shape, saved: Activations) -> dict[str, Parts]:
    """The parts of each moment at which the peak can fall."""
    trained = trained_parameters(work, shape)
    gradients = trained * work.trained_bytes
    state_b, state, scratch_b, scratch = _OPTIMIZERS[work.optimizer]
    states = trained * (state_b * work.trained_bytes + state)
    kept: Parts = {
        "weights": _weights(work, shape),
        "adapters": trained * work.trained_bytes if work.adapts else 0,
        "optimizer states": states,
        "gradients of all processes": gradients if work.gpus > 1 else 0,
        "reference model": shape.parameters * work.weight_bytes if work.stage == "dpo" and not work.adapts else 0,
    }
    held = gradients if work.accumulates else 0
    # Of a tied embedding the head's part of the gradient is there first.
    head_gradient = 0 if work.adapts or work.method == "freeze" else shape.embedding * work.trained_bytes
    recomputed = saved.layer if work.recompute else 0
    moments: dict[str, Parts] = {
        "loss": {**kept, "gradients": held, "saved activations": saved.total, "loss and head": _loss(work, shape)},
        "layer": {
            **kept,
            "gradients": held or head_gradient,
            "saved activations": saved.total,
            "one layer": recomputed + saved.temporaries,
        },
        "step": {
            **kept,
            "gradients": gradients,
            "optimizer scratch": trained * (scratch_b * work.trained_bytes + scratch),
        },
        "evaluation": {**kept, "gradients": 0, **_evaluation(work, shape)},
    }
    if work.method == "full":
        moments["end"] = {**kept, **_end(work, shape, saved, gradients)}
    if work.stage == "dpo" and work.adapts:
        # The reference is the model with its adapters off; its forward pass runs while the policy's activations live.
        moments["reference"] = {
            **kept,
            "gradients": held,
            "saved activations": saved.total,
            "one layer": _forward(work, shape, work.tokens),
        }
    return moments


def _weights(work: Workload, shape: Shape) -> float:
    """The base model. bitsandbytes leaves embeddings, head, norms and fused experts as they are."""
    if work.method != "qlora":
        return shape.parameters * work.weight_bytes
    per_weight = 0.5 + 1 / 64 + 4 / 16384 if work.double_quant else 0.5625
    quantised = shape.layers * shape.layer_weights
    return quantised * per_weight + (shape.parameters - quantised) * work.weight_bytes


def _loss(work: Workload, shape: Shape) -> float:
    """At the start of the backward pass: the last hidden states, and the head on one chunk of scored tokens."""
    tokens, hidden, residual, c = work.tokens, shape.hidden, work.weight_bytes, work.compute_bytes
    scored = work.rows * max(1, work.sequence - 1)
    trains_head = work.method == "full"
    size: float = tokens * ((residual if shape.family.layer_norm else 4) * hidden + residual * hidden)
    if not work.adapts:
        size += tokens * residual * hidden
    size += scored * residual * hidden + 4 * scored * hidden + _head_chunk(scored, shape, c)
    if trains_head:
        size += 4 * shape.embedding + (work.trained_bytes * shape.embedding if work.trained_bytes == 2 else 0)
    else:
        size += residual * scored * hidden
    if work.autocast and residual == 4:
        size += min(shape.vocabulary, HEAD_VOCABULARY) * hidden * c
    if work.device == "cpu":
        # Without Triton the chunk is folded by plain operations, which make copies of it.
        size += 3 * _head_chunk(scored, shape, 4)
    return size


def _head_chunk(scored: int, shape: Shape, element: int) -> int:
    return min(scored, HEAD_TOKENS) * min(shape.vocabulary, HEAD_VOCABULARY) * element


def _end(work: Workload, shape: Shape, saved: Activations, gradients: float) -> Parts:
    """The last layer's backward pass, when all gradients but its own are there; or the embedding's after it."""
    b, stream = work.trained_bytes, work.weight_bytes * shape.hidden * work.tokens
    missing = b * (shape.layer_weights - shape.matrices[-1].size) + (0 if shape.tied else b * shape.embedding)
    layer = saved.layer + saved.temporaries + (stream if work.recompute else 0) - missing
    after = stream + (2 * b * shape.embedding if shape.tied else 0)
    return {"gradients": gradients, "one layer": max(layer, after, 0)}


def _forward(work: Workload, shape: Shape, tokens: int) -> float:
    """One layer without gradients."""
    return tokens * (6 * shape.hidden + 3 * shape.intermediate) * work.compute_bytes


def _evaluation(work: Workload, shape: Shape) -> Parts:
    rows = work.eval_micro_batch * (2 if work.stage == "dpo" else 1)
    tokens = rows * work.sequence
    hidden = tokens * (4 + work.weight_bytes) * shape.hidden + tokens * work.weight_bytes * shape.hidden
    chunk = _head_chunk(tokens, shape, work.compute_bytes)
    return {"one layer": _forward(work, shape, tokens), "loss and head": hidden + chunk}
