"""Spells out a training: a copy of the spec in which every field that applies has a value, and no other one has.

The defaults are those that stand in training.proto, and they stand in the code only here: neither the trainer nor a
library adds one. The spec must have passed `ftd.validate`. Pure.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ftd import method_defaults
from ftd.datasets import Data, DataSource, LongRows, Mixing, Thinking
from ftd.inference import Chat, Evaluate, Export, Inference
from ftd.method_defaults import filled as _with
from ftd.methods import PROMPTS, Freeze, Full, Lora, Method, PrefixTuning
from ftd.models import ModelInfo
from ftd.online import Distill, Grpo, Online, Ppo, Rloo
from ftd.online_defaults import spelled_out
from ftd.spec import (
    Attention,
    Batch,
    Cadence,
    Checkpoints,
    Compute,
    DeviceKind,
    Dtype,
    Evaluation,
    Generation,
    Model,
    Output,
    OutputWeights,
    Push,
    Resources,
    Sharding,
    Sharing,
    TrainingSpec,
)
from ftd.stages import (
    Cpo,
    CpoLoss,
    Dpo,
    DpoLoss,
    Kto,
    Objective,
    Orpo,
    Pretrain,
    Reward,
    Sft,
    SftLoss,
    Stage,
    TrainOn,
    WeightedDpoLoss,
)
from ftd.validate.data import PACKED_STAGES, source_format
from ftd.validate.evaluation import evaluates, figures, usual_figure
from ftd.validate.online import generations
from ftd.validate.outputs import is_whole_model
from ftd.validate.stages import SMOOTHED_CPO_LOSSES, SMOOTHED_LOSSES, UNGROUPED_STAGES, smallest_micro_batch

MAX_LENGTH = 2048
SEQUENCES_PER_UPDATE = 8
SHARD_BYTES = 5 * 2**30
# Of an evaluation without a training: a loss is a mean of micro-batches, so it is that of a training by default.
EVALUATED_ROWS = 1
# A chat that nobody asks anything gives its memory back.
IDLE_SECONDS = 600.0
_TORCH_DTYPES = {"float32": Dtype.FP32, "bfloat16": Dtype.BF16, "float16": Dtype.FP16}


def resolve(training: TrainingSpec, device: DeviceKind, model: ModelInfo | None) -> TrainingSpec:
    """The training as it will run on `device`. `model` bounds what the defaults ask of it; None: not known yet.

    Left unset are only: the hub's default revision, the tokenizer's own template, a format that the rows tell, all
    rows of a source, the output in the run directory, memory as estimated, and GPUs the scheduler chooses.
    """
    if isinstance(training.stage, Inference):
        return _used(training, training.stage, device, model)
    stage = _stage(training.stage or Sft(), training.data.max_length or _longest(model))
    method = method_defaults.method(training.method or Lora(), training.compute, device, model)
    batch = _batch(training.batch, stage, training.resources)
    # Weights that are trained whole must not lose small updates to a 16-bit format.
    base = _model(training.model, device, model, whole=isinstance(method, Full | Freeze))
    data = _data(training.data, stage, method, model)
    compute = _compute(training.compute, stage, method, device, base.attention, model)
    return replace(
        training,
        model=base,
        data=data,
        optimizer=method_defaults.optimizer(training.optimizer, stage, method),
        schedule=method_defaults.schedule(training.schedule),
        batch=_grouped(batch, stage, data, compute),
        compute=compute,
        evaluation=_evaluation(training, batch),
        checkpoints=_checkpoints(training),
        output=_output(training, base),
        stage=stage,
        method=method,
        resources=_resources(training.resources, device),
        seed=42 if training.seed is None else training.seed,
    )


def _used(training: TrainingSpec, stage: Inference, device: DeviceKind, model: ModelInfo | None) -> TrainingSpec:
    """Of a stage that trains nothing: only what it uses is spelled out."""
    base = _model(training.model, device, model, whole=False)
    common = replace(
        training,
        model=base,
        resources=_resources(training.resources, device),
        seed=42 if training.seed is None else training.seed,
    )
    compute = Compute(precision=_precision(device))
    match stage:
        case Evaluate():
            compute = replace(compute, padding_free=_needs_no_padding(base.attention, model))
            return replace(
                common,
                data=_evaluated(training.data, model),
                compute=_with(training.compute, compute),
                evaluation=_once(training.evaluation),
            )
        case Export():
            return replace(common, output=_files(training.output, _own_dtype(model) or base.dtype))
        case Chat():
            data = _with(training.data, Data(max_length=_longest(model)))
            answers = _with(stage, Chat(idle_seconds=IDLE_SECONDS))
            return replace(common, stage=answers, data=data, compute=_with(training.compute, compute))


def _evaluated(data: Data, model: ModelInfo | None) -> Data:
    """The data of an evaluation without a training."""
    defaults = Data(max_length=_longest(model), long_rows=LongRows.TRUNCATE, thinking=Thinking.TEMPLATE, strict=False)
    return replace(_with(data, defaults), eval=_sources(data.eval, None))


def _once(evaluation: Evaluation) -> Evaluation:
    filled = _with(evaluation, Evaluation(micro_batch=EVALUATED_ROWS))
    return replace(filled, generation=_generation(filled.generation)) if filled.generation else filled


def _own_dtype(model: ModelInfo | None) -> Dtype | None:
    """The format that the model's own weights have, if its configuration says one that we know."""
    config = model.config if model else {}
    return _TORCH_DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")))


def _model(model: Model, device: DeviceKind, info: ModelInfo | None, *, whole: bool) -> Model:
    dtype = Dtype.BF16 if device is DeviceKind.GPU and not whole else Dtype.FP32
    attention = Attention.SDPA if info is None or info.has_sdpa else Attention.EAGER
    return _with(model, Model(dtype=dtype, attention=attention))


def _longest(model: ModelInfo | None) -> int:
    return min(MAX_LENGTH, model.max_length or MAX_LENGTH) if model else MAX_LENGTH


def _data(data: Data, stage: Stage, method: Method, model: ModelInfo | None) -> Data:
    defaults = Data(
        eval_split=0.0,
        max_length=_longest(model),
        long_rows=LongRows.DROP if isinstance(stage, Online) else LongRows.TRUNCATE,
        thinking=None if isinstance(stage, Pretrain) else Thinking.TEMPLATE,
        packing=isinstance(stage, Pretrain) and not isinstance(method, PROMPTS),
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


def _stage(stage: Objective, longest: int) -> Objective:
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
        case Grpo() | Rloo() | Ppo() | Distill():
            return spelled_out(stage, longest)


def _sft(stage: Sft) -> Sft:
    train_on = None if stage.roles else stage.train_on or TrainOn.ASSISTANT
    thinking = None if train_on is TrainOn.ALL else stage.train_on_thinking is not False
    return replace(stage, train_on=train_on, train_on_thinking=thinking, loss=stage.loss or SftLoss.NLL)


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


def _batch(batch: Batch, stage: Stage, resources: Resources) -> Batch:
    micro = batch.micro_batch or smallest_micro_batch(stage)
    rows = SEQUENCES_PER_UPDATE * (resources.gpus or 1) * micro
    # An update has all answers to its prompts.
    rows = math.lcm(rows, generations(stage)) if isinstance(stage, Online) else rows
    return _with(batch, Batch(micro_batch=micro, global_batch=rows))


def _grouped(batch: Batch, stage: Stage, data: Data, compute: Compute) -> Batch:
    if data.packing or isinstance(stage, UNGROUPED_STAGES):
        return batch
    return _with(batch, Batch(group_by_length=not compute.padding_free and (batch.micro_batch or 1) > 1))


def _compute(
    compute: Compute,
    stage: Stage,
    method: Method,
    device: DeviceKind,
    attention: Attention | None,
    model: ModelInfo | None,
) -> Compute:
    gpu = device is DeviceKind.GPU
    defaults = Compute(
        precision=_precision(device),
        gradient_checkpointing=gpu and not isinstance(method, PrefixTuning),
        padding_free=not isinstance(stage, Online)
        and not isinstance(method, PROMPTS)
        # Its noise is scaled by the length of a row, and there would be one.
        and compute.neftune_noise_alpha is None
        and _needs_no_padding(attention, model),
    )
    return _with(compute, defaults)


def _precision(device: DeviceKind) -> Dtype:
    return Dtype.BF16 if device is DeviceKind.GPU else Dtype.FP32


def _needs_no_padding(attention: Attention | None, model: ModelInfo | None) -> bool:
    """Whether the model's attention can be told where rows end."""
    return attention is not Attention.EAGER and not (model and model.needs_padding)


def _evaluation(training: TrainingSpec, batch: Batch) -> Evaluation:
    evaluation = training.evaluation
    if not evaluates(training):
        return Evaluation(cadence=Cadence.NEVER)
    metric = evaluation.metric or usual_figure(training.stage)
    defaults = Evaluation(
        cadence=Cadence.EPOCH,
        micro_batch=batch.micro_batch,
        metric=metric,
        higher_is_better=figures(training)[metric],
        min_delta=0.0 if evaluation.patience else None,
    )
    evaluation = _with(evaluation, defaults)
    return replace(evaluation, generation=_generation(evaluation.generation)) if evaluation.generation else evaluation


def _generation(generation: Generation) -> Generation:
    temperature = generation.temperature or 0.0
    defaults = Generation(
        max_rows=64, max_new_tokens=256, temperature=temperature, top_p=1.0 if temperature else None, samples=3
    )
    return _with(generation, defaults)


def _checkpoints(training: TrainingSpec) -> Checkpoints:
    from_best = training.output.weights is OutputWeights.BEST if evaluates(training) else None
    return _with(training.checkpoints, Checkpoints(cadence=Cadence.EPOCH, keep=2, keep_best=from_best))


def _output(training: TrainingSpec, base: Model) -> Output:
    merge = None if isinstance(training.method, Full | Freeze) else False
    output = _with(training.output, Output(weights=OutputWeights.LAST, merge=merge))
    return _files(output, base.dtype if is_whole_model(training) else None)


def _files(output: Output, dtype: Dtype | None) -> Output:
    """The formats of a whole model, with weights in `dtype`; None: it is an adapter."""
    defaults = Output(
        dtype=dtype, max_shard_bytes=SHARD_BYTES if dtype else None, ollama=False if output.gguf else None
    )
    push = _with(output.push, Push(private=True)) if output.push else None
    return replace(_with(output, defaults), push=push)


def _resources(resources: Resources, device: DeviceKind) -> Resources:
    gpus = 1 if device is DeviceKind.GPU else None
    sharding = Sharding.NO_SHARD if (resources.gpus or 1) > 1 else None
    return _with(resources, Resources(device=device, gpus=gpus, sharing=Sharing.SHARE, sharding=sharding))
