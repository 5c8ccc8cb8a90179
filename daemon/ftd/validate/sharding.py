"""What a model that several GPUs divide cannot do: whatever needs all of it in one place."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.methods import Qlora
from ftd.online import Online
from ftd.spec import DeviceKind, Sharding, TrainingSpec, choice_name
from ftd.validate.problems import Problem, Rule, listed

# Those whose states are computed element by element, in torch alone.
OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "sgd")


def _sharding(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    sharding, gpus = training.resources.sharding, training.resources.gpus or 1
    if sharding is None:
        return
    if device is DeviceKind.CPU:
        yield "resources.sharding", "is given, but the job runs on the CPU, where nothing is divided; leave it out"
    elif gpus == 1:
        yield "resources.sharding", "is given, but there is one GPU; accepted with resources.gpus over 1"
    elif sharding is not Sharding.NO_SHARD:
        for path, text in _whole(training):
            yield path, f"{text} that resources.sharding {sharding} divides; accepted with no_shard"


def _whole(training: TrainingSpec) -> Iterator[Problem]:
    """What needs the whole model."""
    if isinstance(training.method, Qlora):
        yield "qlora", "has 4-bit weights, which are no parameters"
    if training.output.merge:
        yield "output.merge", "is on, but needs the whole of a model"
    if training.evaluation.generation is not None:
        yield "evaluation.generation", "is given, but answers are not written with a model"
    if isinstance(training.stage, Online):
        yield choice_name(training.stage), "writes answers, which cannot be done with a model"
    name = training.optimizer.name
    if name is not None and name not in OPTIMIZERS:
        accepted = listed(OPTIMIZERS, "or")
        yield "optimizer.name", f"is {name}, but only {accepted} have states of the parts of a model"


RULES: tuple[Rule, ...] = (_sharding,)
