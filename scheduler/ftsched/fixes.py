"""What would make a training fit that does not: the cheapest changes, each with its new estimate.

Cheap is what changes the result least, then what costs least time: a smaller micro-batch, recomputation, 8-bit
optimizer states, shorter sequences, adapters, adapters on 4-bit weights, and last more GPUs. What does not fit with any
one of them is tried with several; changes that turn out not to be needed are left out again. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftsched.estimate import Estimate, estimate_shape
from ftsched.shapes import Shape
from ftsched.workload import Adapter, Workload

# Shorter rows are seldom worth training on.
SHORTEST = 512
# Adapters that take the place of a full training.
RANK = 16
EIGHT_BIT = "paged_adamw_8bit"


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of the training's spec, by its path, and the value it should have."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Changes that make a training fit, what they do in words, and what it would need then."""

    change: str
    settings: tuple[Setting, ...]
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class _Step:
    """A change in words, in the spec, and in the workload."""

    change: str
    settings: tuple[Setting, ...]
    workload: Mapping[str, Any]


Ladder = list[_Step]


def cheapest_fixes(work: Workload, shape: Shape, fits_bytes: int, most_gpus: int = 1) -> tuple[Fix, ...]:
    """Every single change that makes the reservation at most `fits_bytes`, the cheapest first; else one combination.

    `most_gpus` is how many the job could have. Empty if nothing helps, or if it fits as it is.
    """
    if _fits(work, shape, [], fits_bytes):
        return ()
    ladders = [ladder for ladder in _ladders(work, most_gpus) if ladder]
    single = [steps for ladder in ladders if (steps := _mildest(work, shape, [], ladder, fits_bytes))]
    return tuple(_fix(work, shape, steps) for steps in single or _combined(work, shape, ladders, fits_bytes))


def _mildest(work: Workload, shape: Shape, before: Ladder, ladder: Ladder, fits_bytes: int) -> Ladder | None:
    """The steps before, and the mildest of the ladder that is enough after them."""
    return next(
        (taken for step in ladder if _fits(work, shape, taken := [*before, step], fits_bytes)),
        None,
    )


def _combined(work: Workload, shape: Shape, ladders: list[Ladder], fits_bytes: int) -> list[Ladder]:
    """The last step of each ladder in turn until it fits; without those that the others do not need."""
    before: Ladder = []
    for ladder in ladders:
        taken = _mildest(work, shape, before, ladder, fits_bytes)
        if taken:
            return [_needed(work, shape, taken, fits_bytes)]
        before = [*before, ladder[-1]]
    return []


def _needed(work: Workload, shape: Shape, taken: Ladder, fits_bytes: int) -> Ladder:
    for step in reversed(taken):
        without = [each for each in taken if each is not step]
        if _fits(work, shape, without, fits_bytes):
            taken = without
    return taken


def _after(work: Workload, steps: Ladder) -> Workload:
    for step in steps:
        work = replace(work, **step.workload)
    return work


def _fits(work: Workload, shape: Shape, steps: Ladder, fits_bytes: int) -> bool:
    return estimate_shape(_after(work, steps), shape).reserve_bytes <= fits_bytes


def _fix(work: Workload, shape: Shape, steps: Ladder) -> Fix:
    return Fix(
        change=", ".join(step.change for step in steps),
        settings=tuple(setting for step in steps for setting in step.settings),
        estimate=estimate_shape(_after(work, steps), shape),
    )


def _fewest_rows(work: Workload) -> int:
    """KTO compares the rows of a micro-batch."""
    return 2 if work.stage == "kto" else 1


def _ladders(work: Workload, most_gpus: int) -> list[Ladder]:
    """The kinds of change, the cheapest first; the steps of each get stronger."""
    most_rows = max(work.micro_batch, work.eval_micro_batch)
    micro_batch = [_micro_batch(work, size) for size in _halves(most_rows, _fewest_rows(work))]
    shorter = [_length(length) for length in _halves(work.sequence, SHORTEST)]
    if not work.trains:
        return [micro_batch, shorter] if work.eval_micro_batch else []
    return [
        micro_batch,
        _recomputation(work),
        _optimizer_states(work),
        shorter,
        _methods(work),
        _more_gpus(work, most_gpus),
    ]


def _halves(value: int, least: int) -> Iterator[int]:
    while (value := value // 2) >= least:
        yield value


def _micro_batch(work: Workload, size: int) -> _Step:
    """The global batch stays: fewer rows at a time, more often. The evaluation follows."""
    settings = [Setting("batch.micro_batch", str(size))] if size < work.micro_batch else []
    settings += [Setting("evaluation.micro_batch", str(size))] if size < work.eval_micro_batch else []
    changes = {
        "micro_batch": min(work.micro_batch, size),
        "eval_micro_batch": min(work.eval_micro_batch, size),
        "accumulates": work.accumulates or size < work.micro_batch,
    }
    return _Step(f"micro-batch {size}", tuple(settings), changes)


def _recomputation(work: Workload) -> Ladder:
    if work.recompute:
        return []
    return [_Step("recomputation", (Setting("compute.gradient_checkpointing", "true"),), {"recompute": True})]


def _optimizer_states(work: Workload) -> Ladder:
    if work.device != "gpu" or not work.optimizer.startswith("adamw_torch"):
        return []
    return [_Step("8-bit optimizer states", (Setting("optimizer.name", EIGHT_BIT),), {"optimizer": EIGHT_BIT})]


def _length(length: int) -> _Step:
    return _Step(f"rows of {length} tokens", (Setting("data.max_length", str(length)),), {"sequence": length})


def _methods(work: Workload) -> Ladder:
    """Adapters instead of all weights, then 4 bits for what is frozen."""
    lora: dict[str, Any] = {}
    if not work.adapts:
        lora = {"rank": RANK, "targets": ("all-linear",), "trained_layers": 0, "weight_bytes": work.compute_bytes}
        lora["adapter"] = Adapter()
    qlora = {**lora, "method": "qlora", "adapter_bytes": work.compute_bytes}
    steps = [_Step("LoRA", (Setting("method", "lora"),), {**lora, "method": "lora", "adapter_bytes": 4})]
    steps.append(_Step("QLoRA", (Setting("method", "qlora"),), qlora))
    return {"full": steps, "freeze": steps, "lora": steps[1:]}.get(work.method, [])


def _more_gpus(work: Workload, most_gpus: int) -> Ladder:
    """Only sharding makes each of them hold less."""
    counts = [work.gpus << doublings for doublings in range(1, 11) if work.gpus << doublings <= most_gpus]
    if work.device != "gpu":
        return []
    return [
        _Step(
            f"{count} GPUs with FSDP",
            (Setting("resources.gpus", str(count)), Setting("resources.sharding", "full_shard")),
            {"gpus": count, "sharding": "fsdp2"},
        )
        for count in counts
    ]
