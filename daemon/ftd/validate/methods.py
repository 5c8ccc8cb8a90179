"""What a method, an optimizer and the number formats ask of each other and of the device."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.limits import ADAM_OPTIMIZERS, OPTIMIZERS
from ftd.methods import Qlora
from ftd.spec import Attention, DeviceKind, Dtype, TrainingSpec
from ftd.validate.problems import Problem, Rule, listed

GPU_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def _method(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    match training.method:
        case Qlora(lora=lora) if lora and lora.dora:
            yield "qlora.lora.dora", "is on, but works on whole weights only; leave it out with qlora"
    if device is DeviceKind.GPU:
        return
    for field, dtype in (("model.dtype", training.model.dtype), ("compute.precision", training.compute.precision)):
        if dtype is Dtype.FP16:
            yield field, "is fp16, which a CPU cannot train in; accepted is fp32 or bf16"
    if training.model.attention is Attention.FLASH_ATTENTION_2:
        yield "model.attention", "is flash_attention_2, which needs a GPU; accepted is sdpa or eager"


def _optimizer(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    optimizer = training.optimizer
    if device is DeviceKind.CPU and optimizer.name in GPU_OPTIMIZERS:
        accepted = listed([name for name in OPTIMIZERS if name not in GPU_OPTIMIZERS], "or")
        yield "optimizer.name", f"is {optimizer.name}, which needs a GPU; accepted on a CPU is {accepted}"
    if optimizer.name is None or optimizer.name in ADAM_OPTIMIZERS:
        return
    for field in ("beta1", "beta2", "epsilon"):
        if getattr(optimizer, field) is not None:
            yield f"optimizer.{field}", f"is given, but {optimizer.name} does not use it; leave it out"


RULES: tuple[Rule, ...] = (_method, _optimizer)
