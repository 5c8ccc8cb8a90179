"""What to change in a training that ran out of memory so that the same job can go on with less. Pure.

The cheapest change first: half the micro-batch with twice the accumulation, where that leaves every update as it was,
then recomputation. It must never change what is trained: the rows of each update, their order and their loss stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftd.inference import Evaluate, Inference
from ftd.records import Attempt, Failure, FailureClass, MemoryEstimate, MemoryTerm
from ftd.spec import Cadence, DeviceKind, TrainingSpec
from ftd.stages import Cpo, Dpo, DpoLoss, Kto, Orpo, Stage
from ftsched.fixes import Fix


@dataclass(frozen=True, slots=True)
class Relief:
    """The training with one change, and the change in words."""

    resolved: TrainingSpec
    message: str


def can_relieve(failure: Failure | None, device: DeviceKind | None) -> bool:
    """Whether it is the training's own memory that did not suffice, on the device whose memory it trains in."""
    if failure is None:
        return False
    own = FailureClass.OUT_OF_HOST_MEMORY if device is DeviceKind.CPU else FailureClass.OUT_OF_GPU_MEMORY
    return failure.failure_class is own


def relieve(training: TrainingSpec) -> Relief | None:
    """The training with the next change that makes it smaller; None if there is none left."""
    return _smaller_batches(training) or _recomputation(training)


def advice(fixes: Sequence[Fix]) -> str:
    """What a person may change where nothing is left that leaves the training as it is."""
    changes = [", ".join(f"{one.field} {one.value}" for one in fix.settings) for fix in fixes]
    if not changes:
        return (
            "the micro-batch cannot be smaller and recomputation is on: shorten data.max_length, or use a smaller model"
        )
    return (
        f"the micro-batch cannot be smaller and recomputation is on; less memory is needed with {', or '.join(changes)}"
    )


def kept(estimate: MemoryEstimate, attempt: Attempt) -> MemoryEstimate:
    """An estimate that reserves no less than the attempt had: it was too low for that one, and may be for this one."""
    missing = attempt.reserved_bytes - estimate.reserve_bytes
    if missing <= 0:
        return estimate
    term = MemoryTerm("kept", missing, f"as attempt {attempt.number} had, which ran out of memory")
    return replace(estimate, terms=(*estimate.terms, term), reserve_bytes=attempt.reserved_bytes)


def _smaller_batches(training: TrainingSpec) -> Relief | None:
    batch, evaluation = training.batch, training.evaluation
    micro_batch = batch.micro_batch or 1
    global_batch = batch.global_batch or micro_batch
    per_device = global_batch // (training.resources.gpus or 1)
    divides = micro_batch > 1 and _is_mean_of_rows(training.stage)
    smaller = _largest_divisor(per_device, micro_batch // 2) if divides else micro_batch
    changed = replace(training, batch=replace(batch, micro_batch=smaller))
    words = []
    if smaller < micro_batch:
        words.append(f"batch.micro_batch {micro_batch} → {smaller}, each update in {per_device // smaller} parts")
    evaluated = evaluation.micro_batch or micro_batch
    evaluates = isinstance(training.stage, Evaluate) or evaluation.cadence not in (None, Cadence.NEVER)
    if evaluates and evaluated > 1 and _is_mean_of_rows(training.stage):
        changed = replace(changed, evaluation=replace(evaluation, micro_batch=evaluated // 2))
        words.append(f"evaluation.micro_batch {evaluated} → {evaluated // 2}")
    return Relief(changed, " and ".join(words)) if words else None


def _recomputation(training: TrainingSpec) -> Relief | None:
    if training.compute.gradient_checkpointing or isinstance(training.stage, Inference):
        return None
    compute = replace(training.compute, gradient_checkpointing=True)
    return Relief(replace(training, compute=compute), "compute.gradient_checkpointing on")


def _largest_divisor(number: int, limit: int) -> int:
    """The accumulation must stay whole: an update has `number` sequences on each device."""
    return next(size for size in range(limit, 0, -1) if number % size == 0)


def _is_mean_of_rows(stage: Stage | None) -> bool:
    """Whether the loss of an update stays the same in smaller parts: not where one row's depends on the rows beside it.

    KTO and aot compare the rows of a micro-batch; a likelihood is a mean over all its tokens.
    """
    match stage:
        case Kto() | Orpo() | Cpo():
            return False
        case Dpo():
            losses = {stage.loss, *(each.loss for each in stage.losses)}
            return not losses & {DpoLoss.AOT, DpoLoss.AOT_UNPAIRED, DpoLoss.SFT}
        case _:
            return True
