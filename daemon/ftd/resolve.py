"""Spells out a training: a copy of the spec in which every field that applies has a value, and no other one has.

The defaults are those that stand in training.proto, and they stand in the code only here: neither the trainer nor a
library adds one. The spec must have passed `ftd.validate`. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftd.datasets import Data, DataSource, LongRows, Mixing, Thinking
from ftd.limits import ADAM_OPTIMIZERS, ALL_LINEAR
from ftd.methods import Freeze, Full, Lora, Method, Qlora, QuantType
from ftd.models import ModelInfo
from ftd.spec import (
    Attention,
    Batch,
    Cadence,
    Checkpoints,
    Compute,
    DeviceKind,
    Dtype,
    Evaluation,
    Model,
    Optimizer,
    Output,
    OutputWeights,
    Resources,
    Schedule,
    Sharing,
    TrainingSpec,
)
from ftd.stages import Cpo, CpoLoss, Dpo, DpoLoss, Kto, Orpo, Pretrain, Reward, Sft, Stage, TrainOn, WeightedDpoLoss
from ftd.validate.data import PACKED_STAGES, source_format
from ftd.validate.evaluation import LOSS, evaluates, figures
from ftd.validate.outputs import is_whole_model
from ftd.validate.running import NO_WARMUP_SCHEDULE
from ftd.validate.stages import SMOOTHED_CPO_LOSSES, SMOOTHED_LOSSES, smallest_micro_batch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

MAX_LENGTH = 2048
TRAINABLE_LAYERS = 2
SEQUENCES_PER_UPDATE = 8
SHARD_BYTES = 5 * 2**30


def resolve(training: TrainingSpec, device: DeviceKind, model: ModelInfo | None) -> TrainingSpec:
    """The training as it will run on `device`. `model` bounds what the defaults ask of it; None: not known yet.

    Left unset are only: the hub's default revision, the tokenizer's own template, a format that the rows tell, all
    rows of a source, the output in the run directory, memory as estimated, and GPUs the scheduler chooses.
    """
    stage = _stage(training.stage or Sft())
    method = _method(training.method or Lora(), model)
    batch = _batch(training.batch, stage, training.resources)
    base = _model(training.model, method, device, model)
    return replace(
        training,
        model=base,
        data=_data(training.data, stage, model),
        optimizer=_optimizer(training.optimizer, stage, method),
        schedule=_schedule(training.schedule),
        batch=batch,
        compute=_compute(training.compute, device, base.attention, model),
        evaluation=_evaluation(training, batch),
        checkpoints=_checkpoints(training),
        output=_output(training, base),
        stage=stage,
        method=method,
        resources=_resources(training.resources, device),
        seed=42 if training.seed is None else training.seed,
    )


def _with(given: R, defaults: R) -> R:
    """`given` with each field that is unset taken from `defaults`."""
    names = [name for name in given.__dataclass_fields__ if getattr(given, name) in (None, ())]
    values: dict[str, Any] = {name: getattr(defaults, name) for name in names}
    return replace(given, **values)


def _model(model: Model, method: Method, device: DeviceKind, info: ModelInfo | None) -> Model:
    # Weights that are trained whole must not lose small updates to a 16-bit format.
    whole = isinstance(method, Full | Freeze)
    dtype = Dtype.BF16 if device is DeviceKind.GPU and not whole else Dtype.FP32
    attention = Attention.SDPA if info is None or info.has_sdpa else Attention.EAGER
    return _with(model, Model(dtype=dtype, attention=attention))


def _data(data: Data, stage: Stage, model: ModelInfo | None) -> Data:
    longest = min(MAX_LENGTH, model.max_length or MAX_LENGTH) if model else MAX_LENGTH
    defaults = Data(
        eval_split=0.0,
        max_length=longest,
        long_rows=LongRows.TRUNCATE,
        thinking=None if isinstance(stage, Pretrain) else Thinking.TEMPLATE,
        packing=isinstance(stage, Pretrain),
        mixing=Mixing.CONCAT,
        strict=False,
    )
    data = _with(data, defaults)
    held = None if data.eval else data.eval_split
    data = replace(data, train=_sources(data.train, held), eval=_sources(data.eval, None), eval_split=held)
    return data if isinstance(stage, PACKED_STAGES) else replace(data, packing=None)


def _sources(sources: tuple[DataSource, ...], eval_split: float | None) -> tuple[DataSource, ...]:
    return tuple(
        _with(source, DataSource(format=source_format(source), weight=1.0, eval_split=eval_split)) for source in sources
    )


def _stage(stage: Stage) -> Stage:
    match stage:
        case Sft():
            return _sft(stage)
        case Pretrain():
            return stage
        case Dpo():
            return _dpo(stage)
        case Reward():
            return _with(stage, Reward(center_coefficient=0.0))
        case Kto():
            return _with(stage, Kto(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0))
        case Orpo():
            return _with(stage, Orpo(beta=0.1))
        case Cpo():
            return _cpo(stage)


def _sft(stage: Sft) -> Sft:
    train_on = None if stage.roles else stage.train_on or TrainOn.ASSISTANT
    thinking = None if train_on is TrainOn.ALL else stage.train_on_thinking is not False
    return replace(stage, train_on=train_on, train_on_thinking=thinking)


def _dpo(stage: Dpo) -> Dpo:
    losses = tuple(_with(each, WeightedDpoLoss(weight=1.0)) for each in stage.losses)
    names = [each.loss for each in losses] or [stage.loss or DpoLoss.SIGMOID]
    defaults = Dpo(
        beta=0.1,
        loss=None if losses else DpoLoss.SIGMOID,
        label_smoothing=0.001 if DpoLoss.EXO_PAIR in names else 0.0,
        losses=losses,
        ld_alpha=1.0,
    )
    stage = _with(replace(stage, losses=losses), defaults)
    return stage if set(names) & set(SMOOTHED_LOSSES) else replace(stage, label_smoothing=None)


def _cpo(stage: Cpo) -> Cpo:
    loss = stage.loss or CpoLoss.SIGMOID
    simpo = loss is CpoLoss.SIMPO
    defaults = Cpo(
        beta=0.1, loss=loss, label_smoothing=0.0, nll_weight=0.0 if simpo else 1.0, gamma=0.5 if simpo else None
    )
    stage = _with(stage, defaults)
    return stage if loss in SMOOTHED_CPO_LOSSES else replace(stage, label_smoothing=None)


def _method(method: Method, model: ModelInfo | None) -> Method:
    match method:
        case Lora():
            return _lora(method)
        case Qlora():
            lora = replace(_lora(method.lora or Lora()), dora=None)
            return replace(_with(method, Qlora(quant_type=QuantType.NF4, double_quant=True)), lora=lora)
        case Full():
            return method
        case Freeze():
            layers = min(TRAINABLE_LAYERS, model.layers or TRAINABLE_LAYERS) if model else TRAINABLE_LAYERS
            return _with(method, Freeze(trainable_layers=layers))


def _lora(lora: Lora) -> Lora:
    rank = lora.rank or 8
    return _with(
        lora,
        Lora(rank=rank, alpha=2.0 * rank, dropout=0.0, target_modules=(ALL_LINEAR,), rslora=False, dora=False),
    )


def _optimizer(optimizer: Optimizer, stage: Stage, method: Method) -> Optimizer:
    adapter_or_whole = 1e-4 if isinstance(method, Lora | Qlora) else 1e-5
    rate = 5e-6 if isinstance(stage, Dpo | Kto | Orpo | Cpo) else adapter_or_whole
    name = optimizer.name or "adamw_torch_fused"
    defaults = Optimizer(name=name, learning_rate=rate, weight_decay=0.0, max_grad_norm=1.0)
    if name in ADAM_OPTIMIZERS:
        defaults = replace(defaults, beta1=0.9, beta2=0.999, epsilon=1e-8)
    return _with(optimizer, defaults)


def _schedule(schedule: Schedule) -> Schedule:
    defaults = Schedule(
        epochs=3.0 if schedule.max_steps is None else None,
        name="cosine",
        warmup_ratio=0.03 if schedule.warmup_steps is None else None,
    )
    schedule = _with(schedule, defaults)
    if schedule.name == NO_WARMUP_SCHEDULE:
        return replace(schedule, warmup_ratio=None, warmup_steps=None)
    return schedule


def _batch(batch: Batch, stage: Stage, resources: Resources) -> Batch:
    micro = batch.micro_batch or smallest_micro_batch(stage)
    return _with(batch, Batch(micro_batch=micro, global_batch=SEQUENCES_PER_UPDATE * (resources.gpus or 1) * micro))


def _compute(compute: Compute, device: DeviceKind, attention: Attention | None, model: ModelInfo | None) -> Compute:
    gpu = device is DeviceKind.GPU
    defaults = Compute(
        precision=Dtype.BF16 if gpu else Dtype.FP32,
        gradient_checkpointing=gpu,
        padding_free=attention is not Attention.EAGER and not (model and model.needs_padding),
    )
    return _with(compute, defaults)


def _evaluation(training: TrainingSpec, batch: Batch) -> Evaluation:
    evaluation = training.evaluation
    if not evaluates(training):
        return Evaluation(cadence=Cadence.NEVER)
    metric = evaluation.metric or LOSS
    defaults = Evaluation(
        cadence=Cadence.EPOCH,
        micro_batch=batch.micro_batch,
        metric=metric,
        higher_is_better=figures(training)[metric],
        min_delta=0.0 if evaluation.patience else None,
    )
    return _with(evaluation, defaults)


def _checkpoints(training: TrainingSpec) -> Checkpoints:
    from_best = training.output.weights is OutputWeights.BEST if evaluates(training) else None
    return _with(training.checkpoints, Checkpoints(cadence=Cadence.EPOCH, keep=2, keep_best=from_best))


def _output(training: TrainingSpec, base: Model) -> Output:
    output = training.output
    whole = is_whole_model(training)
    defaults = Output(
        weights=OutputWeights.LAST,
        merge=None if isinstance(training.method, Full | Freeze) else False,
        dtype=base.dtype if whole else None,
        max_shard_bytes=SHARD_BYTES if whole else None,
        ollama=False if output.gguf else None,
    )
    return _with(output, defaults)


def _resources(resources: Resources, device: DeviceKind) -> Resources:
    gpus = 1 if device is DeviceKind.GPU else None
    return _with(resources, Resources(device=device, gpus=gpus, sharing=Sharing.SHARE))
