"""When and in which portions is trained, and on what."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.spec import Attention, Cadence, DeviceKind, TrainingSpec, choice_name
from ftd.stages import Pretrain, Sft
from ftd.validate.problems import Problem, Rule
from ftd.validate.stages import UNGROUPED_STAGES, smallest_micro_batch


def _batch(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    smallest = smallest_micro_batch(training.stage or Sft())
    micro = training.batch.micro_batch or smallest
    for field, given in (("batch", training.batch.micro_batch), ("evaluation", training.evaluation.micro_batch)):
        if given is not None and 1 <= given < smallest:
            text = f"is {given}, but kto compares the answers of a micro-batch; accepted is {smallest} or more"
            yield f"{field}.micro_batch", text
    devices = training.resources.gpus or 1
    whole = training.batch.global_batch
    step = micro * devices
    if whole is None or whole < 1 or step < 1 or whole % step == 0:
        return
    below, above = whole // step * step, (whole // step + 1) * step
    found = f"is {whole}, which micro_batch {micro} on {devices} device{'s' if devices > 1 else ''} does not divide"
    nearest = f"{below} or {above}" if below else str(above)
    yield "batch.global_batch", f"{found}; accepted is a multiple of {step}, e.g. {nearest}"


def _cadences(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    evaluation, checkpoints = training.evaluation, training.checkpoints
    yield from _cadence("evaluation", evaluation.cadence, evaluation.every_steps)
    yield from _cadence("checkpoints", checkpoints.cadence, checkpoints.every_steps)


def _cadence(group: str, cadence: Cadence | None, every_steps: int | None) -> Iterator[Problem]:
    if cadence is Cadence.STEPS and every_steps is None:
        yield f"{group}.every_steps", "is missing; cadence steps needs a number of updates, at least 1"
    if cadence is not Cadence.STEPS and every_steps is not None:
        found = f"is {cadence}" if cadence else "is not given"
        yield f"{group}.every_steps", f"is given, but {group}.cadence {found}; accepted with cadence steps"


def _resources(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    resources = training.resources
    if device is DeviceKind.CPU:
        why = "the job runs on the CPU" if resources.device else "this host has no GPU"
        if resources.gpus is not None:
            yield "resources.gpus", f"is {resources.gpus}, but {why}; leave it out"
        if resources.gpu_uuids:
            yield "resources.gpu_uuids", f"is given, but {why}; leave it out"
        return
    pinned, wanted = len(resources.gpu_uuids), resources.gpus or 1
    if pinned and pinned != wanted:
        found = f"names {pinned} GPU{'s' if pinned > 1 else ''}, but resources.gpus is {wanted}"
        yield "resources.gpu_uuids", f"{found}; accepted is one for each"


def _order(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    stage = training.stage or Sft()
    packed = isinstance(stage, Pretrain) if training.data.packing is None else training.data.packing
    if training.batch.group_by_length and packed:
        yield "batch.group_by_length", "is on, but packed sequences are of one length; leave it out with data.packing"
    if training.batch.group_by_length and isinstance(stage, UNGROUPED_STAGES):
        yield (
            "batch.group_by_length",
            f"is on, but the rows of {choice_name(stage)} have an order of their own; leave it out",
        )


def _padding(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    if not training.compute.padding_free:
        return
    if training.model.attention is Attention.EAGER:
        text = "is on, but eager attention needs padding; accepted with sdpa or flash_attention_2"
        yield "compute.padding_free", text
    elif training.compute.neftune_noise_alpha is not None:
        text = "is on, but NEFTune scales its noise by the length of each row; leave it out"
        yield "compute.padding_free", text


# What holds for a model on a device whatever is done with it.
DEVICES: tuple[Rule, ...] = (_padding, _resources)
RULES: tuple[Rule, ...] = (_batch, _order, _cadences, *DEVICES)
