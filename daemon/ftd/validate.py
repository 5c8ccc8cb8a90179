"""Everything that is wrong with a spec by its text alone: what each field accepts, and how fields go together.

`check` finds all problems at once, each with the path of the field and what would be accepted. It is pure: whether
files exist and devices are large enough is `ftd.intake`'s to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftd.errors import Violation
from ftd.limits import ADAM_OPTIMIZERS, OPTIMIZERS, broken_limits, ending
from ftd.spec import (
    Attention,
    Cadence,
    Columns,
    DataSource,
    DeviceKind,
    Dtype,
    Format,
    JobSpec,
    Qlora,
    TrainingSpec,
    choice_name,
)
from ftd.stages import Cpo, CpoLoss, Dpo, DpoLoss, Kto, Orpo, Pretrain, Reward, Sft, Stage

# A path below `training`, and what is wrong and accepted there.
Problem = tuple[str, str]

STAGE_FORMATS: dict[type[Stage], tuple[Format, ...]] = {
    Sft: (Format.ALPACA, Format.SHAREGPT, Format.MESSAGES, Format.PROMPT_COMPLETION, Format.TEXT),
    Pretrain: (Format.TEXT,),
    Dpo: (Format.PREFERENCE,),
    Reward: (Format.PREFERENCE,),
    Kto: (Format.KTO,),
    Orpo: (Format.PREFERENCE,),
    Cpo: (Format.PREFERENCE,),
}
FORMAT_COLUMNS: dict[Format, tuple[str, ...]] = {
    Format.ALPACA: ("instruction", "input", "output", "system", "history"),
    Format.SHAREGPT: ("messages", "role", "content", "system"),
    Format.MESSAGES: ("messages", "role", "content", "system"),
    Format.PROMPT_COMPLETION: ("prompt", "completion"),
    Format.TEXT: ("text",),
    Format.PREFERENCE: (
        "prompt",
        "messages",
        "instruction",
        "input",
        "system",
        "history",
        "role",
        "content",
        "chosen",
        "rejected",
    ),
    Format.KTO: (
        "label",
        "prompt",
        "completion",
        "messages",
        "instruction",
        "input",
        "output",
        "system",
        "history",
        "role",
        "content",
    ),
}
PACKED_STAGES = (Sft, Pretrain)
SMOOTHED_LOSSES = (DpoLoss.ROBUST, DpoLoss.EXO_PAIR, DpoLoss.AOT, DpoLoss.AOT_UNPAIRED)
SMOOTHED_CPO_LOSSES = (CpoLoss.SIGMOID, CpoLoss.SIMPO)
GPU_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")
NO_WARMUP_SCHEDULE = "constant"
MOST_DEPENDENCIES = 32


def check(spec: JobSpec, device: DeviceKind) -> list[Violation]:
    """All problems of a spec for a host on which it would run on `device`; none if it can be resolved."""
    found = [*broken_limits(spec), *_times(spec), *_after(spec)]
    for rule in _RULES:
        found += [Violation(f"training.{path}", text) for path, text in rule(spec.training, device)]
    return found


def _times(spec: JobSpec) -> Iterator[Violation]:
    if spec.deadline is not None and spec.not_before is not None and spec.deadline <= spec.not_before:
        yield Violation("deadline", "is not after not_before, so the job could never run; accepted is a later time")


def _after(spec: JobSpec) -> Iterator[Violation]:
    if len(spec.after) > MOST_DEPENDENCIES:
        yield Violation("after", f"names {len(spec.after)} jobs; accepted are at most {MOST_DEPENDENCIES}")
    names = [each.job for each in spec.after]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield Violation(f"after[{index}].job", f"names {name} again; accepted is each job once")


def smallest_micro_batch(stage: Stage) -> int:
    """Rows a forward pass needs: KTO's KL term is estimated on each prompt with the answer to another one."""
    return 2 if isinstance(stage, Kto) else 1


def has_evaluation_data(training: TrainingSpec) -> bool:
    """Whether there is, or will be, anything to evaluate on."""
    return bool(training.data.eval or training.data.eval_split)


def source_format(source: DataSource) -> Format | None:
    """The format of a source's rows where it is known without reading it."""
    return Format.TEXT if _is_text_file(source) and source.format is None else source.format


def _model(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    model = training.model
    if model.path is None and model.hub_id is None:
        yield "model.path", "is missing; accepted is the absolute path of a model folder, or a model.hub_id instead"
    if model.path is not None and model.hub_id is not None:
        yield "model.hub_id", "stands beside model.path; accepted is one of the two"
    if model.path is not None and model.revision is not None:
        yield "model.revision", "stands beside model.path; accepted only with model.hub_id"


def _data(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    data = training.data
    if not data.train:
        yield "data.train", "is empty; accepted is at least one source with a path"
    if data.eval and data.eval_split:
        yield "data.eval_split", "stands beside data.eval; accepted is one of the two"
    stage = training.stage or Sft()
    if data.packing and not isinstance(stage, PACKED_STAGES):
        name = choice_name(stage)
        yield "data.packing", f"is on, but the rows of {name} cannot be packed; leave it out with {name}"
    if data.chat_template_path is not None and isinstance(training.stage, Pretrain):
        yield "data.chat_template_path", "is given, but pretrain renders no conversations; leave it out"


def _sources(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    stage = training.stage or Sft()
    for name, sources in (("train", training.data.train), ("eval", training.data.eval)):
        for index, source in enumerate(sources):
            for field, text in _source(source, stage):
                yield f"data.{name}[{index}].{field}", text


def _source(source: DataSource, stage: Stage) -> Iterator[Problem]:
    formats = STAGE_FORMATS[type(stage)]
    if source.format is not None and _is_text_file(source) and source.format is not Format.TEXT:
        yield "format", f"is {source.format}, but a .txt file has only text; accepted is text, or another kind of file"
    elif (known := source_format(source)) is not None and known not in formats:
        wanted = _listed(formats, "or")
        yield "format", f"is {known}, whose rows {choice_name(stage)} cannot train on; accepted is {wanted}"
    yield from _columns(source, formats)


def _columns(source: DataSource, formats: tuple[Format, ...]) -> Iterator[Problem]:
    given = [n for n in Columns.__dataclass_fields__ if getattr(source.columns, n, None) is not None]
    if given and _is_text_file(source):
        yield "columns", "is given, but a .txt file has no columns; leave it out"
        return
    if source.format is not None:
        known = FORMAT_COLUMNS[source.format]
        for name in given:
            if name not in known:
                yield f"columns.{name}", f"is no column of the format {source.format}; it has {_listed(known, 'and')}"
    elif not any(set(given) <= set(FORMAT_COLUMNS[f]) for f in formats):
        accepted = "; ".join(f"{f}: {', '.join(FORMAT_COLUMNS[f])}" for f in formats)
        yield "columns", f"names {_listed(given, 'and')}, which no format has together; accepted is {accepted}"


def _is_text_file(source: DataSource) -> bool:
    return ending(source.path) == ".txt"


def _stage(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    match training.stage:
        case Dpo():
            yield from _dpo(training.stage)
        case Cpo():
            yield from _cpo(training.stage)


def _dpo(stage: Dpo) -> Iterator[Problem]:
    several = [each.loss for each in stage.losses]
    if several and stage.loss is not None:
        yield "dpo.losses", "stands beside dpo.loss; accepted is one of the two"
    for index, loss in enumerate(several):
        if loss is None:
            yield (
                f"dpo.losses[{index}].loss",
                f"is missing; accepted is {_listed([str(each) for each in DpoLoss], 'or')}",
            )
        elif loss in several[:index]:
            yield f"dpo.losses[{index}].loss", f"names {loss} again; accepted is each loss once"
    losses = [loss for loss in several if loss] or [stage.loss or DpoLoss.SIGMOID]
    if stage.label_smoothing and not set(losses) & set(SMOOTHED_LOSSES):
        accepted = _listed([str(each) for each in SMOOTHED_LOSSES], "or")
        found = f"has no meaning for the loss {_listed([str(each) for each in losses], 'and')}"
        yield "dpo.label_smoothing", f"{found}; accepted with {accepted}"
    if stage.label_smoothing == 0 and DpoLoss.EXO_PAIR in losses:
        yield "dpo.label_smoothing", "is 0, but exo_pair has no value there; accepted is over 0, e.g. 0.001"


def _cpo(stage: Cpo) -> Iterator[Problem]:
    loss = stage.loss or CpoLoss.SIGMOID
    if stage.label_smoothing and loss not in SMOOTHED_CPO_LOSSES:
        yield "cpo.label_smoothing", f"has no meaning for the loss {loss}; accepted with sigmoid or simpo"
    if stage.gamma is not None and loss is not CpoLoss.SIMPO:
        yield "cpo.gamma", f"has no meaning for the loss {loss}; accepted with simpo"


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
        accepted = _listed([name for name in OPTIMIZERS if name not in GPU_OPTIMIZERS], "or")
        yield "optimizer.name", f"is {optimizer.name}, which needs a GPU; accepted on a CPU is {accepted}"
    if optimizer.name is None or optimizer.name in ADAM_OPTIMIZERS:
        return
    for field in ("beta1", "beta2", "epsilon"):
        if getattr(optimizer, field) is not None:
            yield f"optimizer.{field}", f"is given, but {optimizer.name} does not use it; leave it out"


def _schedule(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    schedule = training.schedule
    if schedule.epochs is not None and schedule.max_steps is not None:
        yield "schedule.max_steps", "stands beside schedule.epochs; accepted is one of the two"
    if schedule.warmup_ratio is not None and schedule.warmup_steps is not None:
        yield "schedule.warmup_steps", "stands beside schedule.warmup_ratio; accepted is one of the two"
    for field in ("warmup_ratio", "warmup_steps"):
        if schedule.name == NO_WARMUP_SCHEDULE and getattr(schedule, field):
            yield f"schedule.{field}", "is given, but constant has no warmup; accepted with constant_with_warmup"


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


def _evaluation(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    evaluation = training.evaluation
    yield from _cadence("evaluation", evaluation.cadence, evaluation.every_steps)
    evaluates = has_evaluation_data(training)
    if evaluation.cadence not in (None, Cadence.NEVER) and not evaluates:
        wanted = "accepted with data.eval or data.eval_split"
        yield "evaluation.cadence", f"is {evaluation.cadence}, but there is no evaluation data; {wanted}"
    if evaluation.micro_batch is not None and (evaluation.cadence is Cadence.NEVER or not evaluates):
        yield "evaluation.micro_batch", "is given, but nothing is evaluated; leave it out"


def _checkpoints(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    yield from _cadence("checkpoints", training.checkpoints.cadence, training.checkpoints.every_steps)


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


def _listed(words: tuple[str, ...] | list[str], last: str) -> str:
    """E.g. "a, b or c"."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


_RULES: tuple[Callable[[TrainingSpec, DeviceKind], Iterator[Problem]], ...] = (
    _model,
    _data,
    _sources,
    _stage,
    _method,
    _optimizer,
    _schedule,
    _batch,
    _evaluation,
    _checkpoints,
    _resources,
)
