"""How much memory a training step needs on each device: arithmetic on the spec and the model's shape, without torch.

    estimate(workload, config) -> Estimate

A step is looked at in the moments at which its peak can fall (the end of the forward pass, the loss, one layer's
backward pass, the end of the backward pass, the optimizer step, the evaluation, the writing of answers); the estimate
is the largest, term by term. The formulas give bytes and follow what torch, transformers, PEFT and TRL allocate, op by
op. Pure.

    forward      kept + gradients so far + activations + copies that autocast makes + the head's chunks
    loss         kept + gradients so far + activations + the head's chunks
    layer        kept + gradients so far + activations + one layer recomputed + its temporaries
    end          kept + all gradients but the last ones + one layer        (full only)
    step         kept + gradients + the optimizer's scratch
    evaluation   kept + one layer's forward pass, or the head's chunks
    generation   kept + keys and values + one layer's forward pass over the prompts + the last logits
    export       kept + a whole model in the output's format            (on a CPU, where one is made)
    where kept = weights, adapters, optimizer states, the reference model, the copy that several GPUs exchange
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftsched.activations import Activations, activations, dequantised_bytes
from ftsched.losses import forward_bytes, held_bytes, loss_bytes
from ftsched.optimizers import DERIVED as DERIVED_OPTIMIZERS
from ftsched.optimizers import optimizer_bytes
from ftsched.shapes import Shape, shape_of
from ftsched.sharding import Division, division
from ftsched.trained import model_parameters, trained_parameters
from ftsched.workload import PAIRED, REFERENCED, Workload

# What a process holds besides tensors: the CUDA context, with NCCL's buffers where there are several GPUs; on a CPU the
# interpreter with the training libraries, 0.9 GiB as measured, and what the allocator and a mapped weights file keep.
GPU_CONTEXT = int(0.9 * 2**30)
GPU_CONTEXT_SEVERAL = int(3.5 * 2**30)
CPU_CONTEXT = int(1.5 * 2**30)
MARGIN_BYTES = 2**28
# Half-widths: what known shapes missed measured peaks by on one GPU, what is derived and not measured, what an unknown
# shape may miss, with its parameters counted and without. The margin is the half-width, so that what is reserved is the
# upper edge.
MEASURED, DERIVED, ON_CPU, COUNTED, UNKNOWN = 0.05, 0.10, 0.20, 0.25, 0.35
_NOTES = {
    "weights": "as loaded",
    "saved activations": "kept for the backward pass",
    "one layer": "at work, with its temporaries",
    "loss and head": "the head in chunks, never all logits",
    "gradients of all processes": "a second copy that is exchanged",
    "reference model": "a frozen copy",
    "reference adapter": "a frozen copy of the one that is trained on",
    "other models": "as a reward model on the same device",
    "gathered parameters": "of one layer and of what belongs to none",
    "gradients not yet divided": "of one layer and of the head",
    "gradients of the layers' inputs": "which FSDP holds until the backward pass ends",
    "16-bit copies": "of trained weights, until autocast is left",
    "held logits": "which the caller keeps",
    "keys and values": "of all answers being written",
    "exported model": "made of the weights at the end",
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


def estimate(work: Workload, config: Mapping[str, Any], parameters: int = 0) -> Estimate:
    """The estimate of one training.

    `parameters` is their number as somebody counted it, 0 if nobody did: a model type that is not known is less of a
    guess then. Raises NotAModel if the config does not describe a decoder, UnknownOptimizer if the table lacks it.
    """
    return estimate_shape(work, shape_of(config, parameters))


def estimate_shape(work: Workload, shape: Shape) -> Estimate:
    """The estimate of one training of a model of this shape."""
    moments = _moments(work, shape, activations(work, shape)) if work.trains else _of_use(work, shape)
    moment, largest = max(moments, key=lambda each: sum(each[1].values()))
    parts = {name: int(size) for name, size in largest.items() if size >= 1}
    peak = sum(parts.values())
    uncertainty = _uncertainty(work, shape)
    margin, context = margin_bytes(peak, uncertainty), _context(work)
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


def margin_bytes(peak_bytes: int, uncertainty: float) -> int:
    """What is reserved beside a peak that is known so well."""
    return int(uncertainty * peak_bytes) + MARGIN_BYTES


def _context(work: Workload) -> int:
    if work.device == "cpu":
        return CPU_CONTEXT
    return GPU_CONTEXT if work.gpus == 1 else GPU_CONTEXT_SEVERAL


def _uncertainty(work: Workload, shape: Shape) -> float:
    if not shape.known:
        return COUNTED if shape.counted else UNKNOWN
    if work.device == "cpu":
        return ON_CPU
    devices = work.gpus == 1 or work.sharding == "fsdp"
    measured = work.stage in ("sft", "pretrain") and work.method in ("lora", "qlora", "full") and devices
    derived = work.dora or work.saved_modules or work.optimizer in DERIVED_OPTIMIZERS
    return MEASURED if measured and not derived else DERIVED


def _moments(work: Workload, shape: Shape, saved: Activations) -> list[tuple[str, Parts]]:
    """The parts of each moment at which the peak can fall."""
    trained = trained_parameters(work, shape)
    gradients = 0 if work.steps_in_backward else trained * work.trained_bytes
    shares = division(work, shape, gradients)
    kept, scratch = _kept(work, shape, shares, trained)
    # Without accumulation the gradients of earlier layers are gone; the head's comes first in the backward pass.
    before = gradients / shares.gradients if work.accumulates else 0
    head = shape.embedding * work.trained_bytes if work.trains_head and not work.gathers else 0
    root: Parts = {"gathered parameters": shares.gathered_root}
    gathered: Parts = {"gathered parameters": shares.gathered_root + shares.gathered_layer}
    forward: Parts = {**kept, **gathered, "saved activations": 0 if work.offloads_activations else saved.total}
    held: Parts = {"held logits": held_bytes(work, shape)}
    one_layer = saved.temporaries + (saved.layer if work.recompute else 0)
    undivided: Parts = {
        "gradients not yet divided": shares.undivided_gradients,
        "gradients of the layers' inputs": shares.kept_inputs,
    }
    copies: Parts = {"16-bit copies": saved.copies, "loss and head": forward_bytes(work, shape, work.tokens)}
    moments: list[tuple[str, Parts]] = [
        ("forward", {**forward, **root, **copies, "gradients": before}),
        ("loss", {**forward, **root, "gradients": before, "loss and head": loss_bytes(work, shape)}),
        ("layer", {**forward, **held, **undivided, "gradients": before or head, "one layer": one_layer}),
        ("step", {**kept, "gradients": gradients / shares.gradients, "scratch": scratch}),
        ("evaluation", {**kept, **gathered, **_forward(work, shape, work.eval_micro_batch)}),
    ]
    if work.method == "full":
        ends = _ends(work, shape, saved, gradients, shares)
        moments += [("end", {**kept, **gathered, **undivided, **held, **part}) for part in ends]
    if work.stage in ("dpo", "kto") and work.reference:
        # The reference's forward pass runs while the policy's activations live.
        moments.append(("loss", {**forward, "gradients": before, **_forward(work, shape, work.micro_batch)}))
    if work.generated_rows:
        prompt = max(1, work.sequence - work.completion)
        written = _generation(work, shape, work.generated_rows, prompt, work.sequence)
        moments.append(("generation", {**kept, **gathered, **written}))
    return [*moments, *_without_gradients(work, shape, {**kept, **gathered})]


def _of_use(work: Workload, shape: Shape) -> list[tuple[str, Parts]]:
    """The moments of a model that is used and not trained."""
    kept: Parts = {"weights": _weights(work, shape), "other models": work.other_models_bytes}
    evaluation = {**kept, **_forward(work, shape, work.eval_micro_batch)}
    return [("loading", kept), ("evaluation", evaluation), *_without_gradients(work, shape, kept)]


def _without_gradients(work: Workload, shape: Shape, kept: Parts) -> Iterator[tuple[str, Parts]]:
    """The answers of an evaluation, and the model that is made at the end."""
    if work.exported_weight_bytes and work.device == "cpu":
        yield "export", {**kept, "exported model": shape.parameters * work.exported_weight_bytes}
    if work.answer_tokens:
        longest = work.sequence + work.answer_tokens
        yield "evaluation", {**kept, **_generation(work, shape, work.eval_micro_batch, work.sequence, longest)}


def _kept(work: Workload, shape: Shape, shares: Division, trained: int) -> tuple[Parts, float]:
    """What is there in every moment; and the optimizer's scratch, which is not."""
    states, scratch = optimizer_bytes(work, shape, trained)
    reference = work.stage in REFERENCED and work.reference and not work.adapts
    kept: Parts = {
        "weights": _weights(work, shape) / shares.weights,
        "adapters": trained * work.trained_bytes / shares.weights if work.adapts else 0,
        "optimizer states": states / shares.states,
        "gradients of all processes": shares.exchanged,
        "reference model": shape.parameters * work.weight_bytes / shares.weights if reference else 0,
        "reference adapter": trained * work.trained_bytes / shares.weights if work.reference_adapter else 0,
        "other models": work.other_models_bytes,
    }
    return kept, scratch / shares.states


def _weights(work: Workload, shape: Shape) -> float:
    """The base model. bitsandbytes leaves embeddings, head, norms and fused experts as they are."""
    parameters = model_parameters(work, shape)
    if work.method != "qlora":
        return parameters * (work.trained_bytes if work.method == "full" else work.weight_bytes)
    quantised = min(shape.linear_weights, parameters)
    return quantised * work.unit_bytes(shape) + (parameters - quantised) * work.weight_bytes


def _ends(work: Workload, shape: Shape, saved: Activations, gradients: int, shares: Division) -> list[Parts]:
    """The last layer's backward pass, when all gradients but its own are there; and the embedding's after it."""
    b, stream = work.trained_bytes, work.stream_bytes * shape.hidden * work.tokens
    # The gradient of a matrix that is the head too is there from the start, and that of the embedding meets it.
    twice = shape.tied and work.has_vocabulary_head
    missing = b * (shape.layer_weights - shape.matrices[-1].size + (0 if twice else shape.embedding))
    layer = saved.layer + saved.temporaries + (stream if work.recompute else 0)
    embedding = stream + (2 * b * shape.embedding if twice else 0)
    return [
        {"gradients": max(0, gradients - missing) / shares.gradients, "one layer": layer},
        {"gradients": gradients / shares.gradients, "one layer": embedding},
    ]


def _forward(work: Workload, shape: Shape, micro_batch: int) -> Parts:
    """A forward pass without gradients: at work in a layer or, once that has gone, in the head."""
    rows = micro_batch * (2 if work.stage in PAIRED else 1)
    tokens, c = rows * work.sequence, work.compute_bytes
    inner = shape.experts.active * shape.experts.width if shape.experts else shape.intermediate
    head = forward_bytes(work, shape, tokens)
    layer = tokens * (6 * shape.hidden + 3 * c * inner) + dequantised_bytes(work, shape)
    return {"one layer": layer} if layer > head else {"loss and head": head}


def _generation(work: Workload, shape: Shape, rows: int, prompt: int, longest: int) -> Parts:
    """Answers being written: keys and values of all tokens, the prompts' forward pass, the last logits.

    `prompt` and `longest` are tokens of a row's prompt, and of prompt and answer.
    """
    c = work.compute_bytes
    inner = shape.experts.active * shape.experts.width if shape.experts else shape.intermediate
    return {
        "keys and values": rows * longest * shape.layers * 2 * shape.group * c,
        "one layer": rows * prompt * (6 * shape.hidden + 3 * c * inner),
        # The last logits as they are, in fp32, and sorted to be drawn from.
        "loss and head": rows * shape.vocabulary * (c + 3 * 4),
    }
