"""What a method, an optimizer, a schedule and the number formats ask of each other and of the device."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.methods import (
    CHANGING_INITS,
    PROMPTS,
    Adalora,
    Boft,
    Encoder,
    Freeze,
    Full,
    Lora,
    LoraInit,
    Oft,
    PrefixTuning,
    PTuning,
    Qlora,
    QuantType,
)
from ftd.optimizers import TABLE
from ftd.spec import Attention, DeviceKind, Dtype, Schedule, TrainingSpec, choice_name
from ftd.stages import Pretrain, Sft
from ftd.validate.evaluation import evaluates
from ftd.validate.problems import Problem, Rule, listed

PLATEAU = "reduce_lr_on_plateau"
NO_WARMUP_SCHEDULES = ("constant", PLATEAU)
# Fields of a schedule that only some have, with those.
SCHEDULE_FIELDS = {
    "min_lr_ratio": ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"),
    "restarts": ("cosine_with_restarts",),
    "power": ("polynomial",),
    "decay_ratio": ("warmup_stable_decay",),
    "decay": ("warmup_stable_decay",),
    "plateau_factor": (PLATEAU,),
    "plateau_patience": (PLATEAU,),
}
_NOT_ALWAYS_USED = tuple(dict.fromkeys(field for kind in TABLE.values() for field in kind.fields))


def _device(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    if device is DeviceKind.GPU:
        return
    for field, dtype in (("model.dtype", training.model.dtype), ("compute.precision", training.compute.precision)):
        if dtype is Dtype.FP16:
            yield field, "is fp16, which a CPU cannot train in; accepted is fp32 or bf16"
    if isinstance(training.method, Boft) and (training.method.factors or 1) > 1:
        yield "boft.factors", f"is {training.method.factors}, which needs a kernel that a CPU has not; accepted is 1"
    if training.model.attention is Attention.FLASH_ATTENTION_2:
        yield "model.attention", "is flash_attention_2, which needs a GPU; accepted is sdpa or eager"


def _method(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    match training.method:
        case Lora():
            yield from _lora(training.method, "lora")
        case Qlora():
            yield from _qlora(training.method)
            yield from _lora(training.method.lora or Lora(), "qlora.lora")
        case Adalora():
            yield from _adalora(training.method, training.schedule)
        case Oft(epsilon=float(), constrained=constrained) if not constrained:
            yield "oft.epsilon", "is given, but oft.constrained is off; accepted with constrained: true"
        case PrefixTuning(encoder_hidden_size=int(), projection=projection) if not projection:
            yield "prefix_tuning.encoder_hidden_size", "is given, but projection is off; accepted with projection: true"
        case PTuning(encoder_dropout=float(), encoder=encoder) if encoder is not Encoder.LSTM:
            yield "p_tuning.encoder_dropout", "is given, but the encoder is mlp; accepted with lstm"
        case Freeze() | Full():
            pass


def _lora(lora: Lora, place: str) -> Iterator[Problem]:
    if lora.target_pattern is not None and lora.target_modules:
        yield f"{place}.target_pattern", f"stands beside {place}.target_modules; accepted is one of the two"
    if lora.init is not None and lora.continue_from:
        yield f"{place}.init", "is given, but the adapter of continue_from is there already; leave it out"
    if lora.pissa_iterations is not None and lora.init is not LoraInit.PISSA:
        yield f"{place}.pissa_iterations", "is given, but init is not pissa; accepted with init: pissa"
    if lora.init in CHANGING_INITS:
        if lora.dora:
            yield f"{place}.dora", f"is on, but the output of init {lora.init} could not be converted; leave it out"
        if lora.rslora and (lora.rank_pattern or lora.alpha_pattern):
            text = f"is on beside a pattern of ranks or alphas and init {lora.init}; accepted are two of the three"
            yield f"{place}.rslora", text
    ranks = [lora.rank or 8, *lora.rank_pattern.values()]
    if lora.init is LoraInit.ORTHOGONAL and any(rank % 2 for rank in ranks):
        yield f"{place}.init", "is orthogonal, which needs even ranks; accepted is another rank or init"
    if lora.loraplus_embedding_lr is not None and lora.loraplus_lr_ratio is None:
        yield f"{place}.loraplus_embedding_lr", "is given without loraplus_lr_ratio; accepted with it"


def _qlora(qlora: Qlora) -> Iterator[Problem]:
    lora = qlora.lora or Lora()
    if lora.dora:
        yield "qlora.lora.dora", "is on, but works on whole weights only; leave it out with qlora"
    if lora.init not in (None, LoraInit.DEFAULT, LoraInit.GAUSSIAN):
        yield "qlora.lora.init", f"is {lora.init}, which needs whole weights; accepted is default or gaussian"
    if qlora.quant_type is QuantType.INT8:
        for field in ("double_quant", "compute_dtype", "storage_dtype"):
            if getattr(qlora, field) not in (None, False):
                yield f"qlora.{field}", "is given, but int8 has no such choice; accepted with nf4 or fp4"


def _adalora(adalora: Adalora, schedule: Schedule) -> Iterator[Problem]:
    initial, rank = adalora.initial_rank or 12, adalora.rank or 8
    if rank >= initial:
        yield "adalora.rank", f"is {rank}, and initial_rank {initial}; accepted is a smaller rank at the end"
    fixed = (adalora.initial_steps or 0) + (adalora.final_steps or 0)
    if schedule.max_steps is not None and fixed >= schedule.max_steps:
        text = f"leaves none of {schedule.max_steps} updates to change ranks in, with initial_steps; accepted are fewer"
        yield "adalora.final_steps", text


def _prompts(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    if not isinstance(training.method, PROMPTS):
        return
    name = choice_name(training.method)
    if not isinstance(training.stage or Sft(), Sft | Pretrain):
        yield name, "puts virtual tokens before the rows, which this stage does not know; accepted with sft or pretrain"
    if training.compute.padding_free:
        yield "compute.padding_free", f"is on, but {name} puts virtual tokens before each row; leave it out"
    if training.compute.neftune_noise_alpha is not None:
        yield "compute.neftune_noise_alpha", f"is given, but {name} makes embeddings of its own; leave it out"
    if training.data.packing:
        yield "data.packing", f"is on, but {name} puts virtual tokens before each row; leave it out"
    if isinstance(training.method, PrefixTuning) and training.compute.gradient_checkpointing:
        text = "is on, but prefix_tuning hands keys and values to each layer, which recomputing loses; leave it out"
        yield "compute.gradient_checkpointing", text


def _optimizer(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    optimizer = training.optimizer
    kind = TABLE.get(optimizer.name or "adamw_torch_fused")
    if kind is None:
        return
    if device is DeviceKind.CPU and kind.needs_gpu:
        accepted = listed([name for name in TABLE if not TABLE[name].needs_gpu], "or")
        yield "optimizer.name", f"is {optimizer.name}, which needs a GPU; accepted on a CPU is {accepted}"
    for field in _NOT_ALWAYS_USED:
        if field not in kind.fields and getattr(optimizer, field) is not None:
            yield f"optimizer.{field}", f"is given, but {optimizer.name} does not use it; leave it out"
    if kind.projects and not isinstance(training.method, Full | Freeze):
        text = f"is {optimizer.name}, which projects whole matrices; accepted with full or freeze"
        yield "optimizer.name", text
    lora = training.method.lora if isinstance(training.method, Qlora) else training.method
    if isinstance(lora, Lora) and lora.loraplus_lr_ratio is not None and not kind.takes_groups:
        yield "optimizer.name", f"is {optimizer.name}, which cannot have the two rates of loraplus_lr_ratio"


def _schedule(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    schedule = training.schedule
    name = schedule.name or "cosine"
    if schedule.epochs is not None and schedule.max_steps is not None:
        yield "schedule.max_steps", "stands beside schedule.epochs; accepted is one of the two"
    if schedule.warmup_ratio is not None and schedule.warmup_steps is not None:
        yield "schedule.warmup_steps", "stands beside schedule.warmup_ratio; accepted is one of the two"
    for field in ("warmup_ratio", "warmup_steps"):
        if name in NO_WARMUP_SCHEDULES and getattr(schedule, field):
            yield f"schedule.{field}", f"is given, but {name} has no warmup; accepted with constant_with_warmup"
    for field, names in SCHEDULE_FIELDS.items():
        if name not in names and getattr(schedule, field) is not None:
            yield f"schedule.{field}", f"is given, but {name} does not use it; accepted with {listed(names, 'or')}"
    if name == PLATEAU and not evaluates(training):
        yield "schedule.name", f"is {PLATEAU}, but nothing is evaluated; accepted with evaluation data"


# What holds for numbers and kernels whatever is done with them.
DEVICES: tuple[Rule, ...] = (_device,)
RULES: tuple[Rule, ...] = (*DEVICES, _method, _prompts, _optimizer, _schedule)
