"""What a training takes from elsewhere: each field that names weights or a job, what fits there, what is filled in.

A job's output has its place from the day the job is submitted, so the jobs in a spec become paths at once, whether
there is anything yet or not. Pure: which jobs a spec means is told, and nothing here opens a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from ftd.errors import Violation
from ftd.inference import Chat, Evaluate, Export, Inference
from ftd.job import Job
from ftd.methods import CHANGING_INITS, Freeze, Full, Lora, Method, PrefixTuning, PromptTuning, PTuning, Qlora
from ftd.moves import TERMINAL
from ftd.records import JobState
from ftd.spec import Choice, Dependency, Model, TrainingSpec, choice_name
from ftd.stages import Reward
from ftd.weights import Resume, Weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

_ON_OWN_MODEL = ("adapters", "continue_from")
# What may differ where a training goes on with an adapter or from a checkpoint: how it is trained, not what it is.
_TRAINING_ONLY = frozenset(
    {"dropout", "init", "pissa_iterations", "loraplus_lr_ratio", "loraplus_embedding_lr", "continue_from"}
)


class Kind(StrEnum):
    """What the output of a job is."""

    MODEL = "model"
    ADAPTER = "adapter"
    REWARD_MODEL = "reward model"
    # Of what trains nothing, and writes no model.
    REPORT = "report"


# They put tokens or keys before a row, and have no weights that could be added to the model's.
_UNMERGEABLE = (PrefixTuning, PromptTuning, PTuning)
_LANGUAGE_MODELS = (Kind.MODEL, Kind.ADAPTER)
# What fits a field, by its name; `from_job` is the model's own.
FITS: dict[str, tuple[Kind, ...]] = {
    "from_job": _LANGUAGE_MODELS,
    "adapters": (Kind.ADAPTER,),
    "continue_from": (Kind.ADAPTER,),
    "reference": _LANGUAGE_MODELS,
    "teacher": _LANGUAGE_MODELS,
    # Of a reward.
    "weights": (Kind.REWARD_MODEL,),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A job that a training takes from. `base` is the job whose output that job began with, if it is one's.

    `checkpoint` is the folder of what is taken in place of its output; empty: the output.
    """

    job: Job
    base: Job | None = None
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A training with the paths of what it takes, and what is known of that before it is there."""

    training: TrainingSpec
    # By the field that names the job.
    origins: Mapping[str, Origin] = field(default_factory=dict)
    dependencies: tuple[Dependency, ...] = ()
    problems: tuple[Violation, ...] = ()
    # Folder whose config.json tells what the model will be, where it is not the model's own.
    described_by: str = ""
    has_template: bool = False


def weights_in(training: TrainingSpec) -> Iterator[tuple[str, Weights]]:
    """Every field of weights that is set, by its path below the training."""
    return ((path, value) for path, value in _records(training, "") if isinstance(value, Weights))


def jobs_in(training: TrainingSpec) -> Iterator[tuple[str, str]]:
    """Every field that names a job, and the text that names it."""
    for path, value in _records(training, ""):
        if isinstance(value, Model | Weights | Resume) and value.from_job is not None:
            yield f"{path}.from_job", value.from_job


def output_kind(training: TrainingSpec) -> Kind:
    """What a training leaves."""
    if isinstance(training.stage, Reward):
        return Kind.REWARD_MODEL
    if isinstance(training.stage, Evaluate | Chat):
        return Kind.REPORT
    return Kind.MODEL if is_whole(training) else Kind.ADAPTER


def is_whole(training: TrainingSpec) -> bool:
    """Whether what a training leaves needs no base model."""
    whole = isinstance(training.method, Full | Freeze) or isinstance(training.stage, Export)
    return whole or bool(training.output.merge)


def misfit(training: TrainingSpec, field: str, origin: Origin) -> str:
    """Why the field cannot take from the job; empty if it can. `field` is one of `jobs_in`."""
    job, name = origin.job, _name(field)
    checkpoint = takes_checkpoint(training, field)
    if checkpoint and job.state not in TERMINAL:
        accepted = "accepted is a job that has ended: a running one may still remove checkpoints"
        return f"is job {job.id}, which is {job.state}; {accepted}"
    if name == "resume":
        return ""
    if not checkpoint and job.state in TERMINAL - {JobState.SUCCEEDED}:
        how = "failed" if job.state is JobState.FAILED else "been cancelled"
        return f"is job {job.id}, which has {how} and left no output; retry that one first"
    kind = _checkpoint_kind(job.resolved) if checkpoint else output_kind(job.resolved)
    fitting = _fitting(training, name)
    if kind not in fitting:
        return f"is job {job.id}, whose output is {_a(kind)}; accepted is {' or '.join(map(_a, fitting))}"
    if name == "from_job" and kind is Kind.ADAPTER and isinstance(training.method, Qlora):
        return f"is job {job.id}, whose adapter would be rounded to the bits of qlora; accepted with qlora is a model"
    if kind is Kind.ADAPTER and isinstance(job.resolved.method, _UNMERGEABLE) and name != "continue_from":
        method = choice_name(job.resolved.method)
        return f"is job {job.id}, whose adapter is of {method}, which cannot be merged into a model"
    if name == "from_job" and training.model.adapters and _quantisation(training, origin):
        return f"is job {job.id}, whose adapter is of qlora: no other one goes on top; leave model.adapters out"
    if checkpoint and _needs_conversion(job.resolved):
        return f"is job {job.id}, whose checkpoints have adapters that do not stand alone; accepted is its output"
    if (
        not is_whole(job.resolved)
        and name not in _ON_OWN_MODEL
        and name != "from_job"
        and job.resolved.model.path is None
    ):
        return f"is job {job.id}, whose base model is on a hub; accepted is one whose base model is a folder here"
    return ""


def takes_checkpoint(training: TrainingSpec, field: str) -> bool:
    """Whether the field takes a checkpoint of the job, and not its output."""
    return field == "resume.from_job" or (field == "model.from_job" and training.model.checkpoint is not None)


def _checkpoint_kind(training: TrainingSpec) -> Kind:
    """What the checkpoints of a training are: nothing is merged yet."""
    return output_kind(replace(training, output=replace(training.output, merge=None)))


def _needs_conversion(training: TrainingSpec) -> bool:
    """Whether an adapter goes with other weights than those of the model, until the output is made of it."""
    lora = lora_of(training.method)
    return lora is not None and (lora.init in CHANGING_INITS or lora.continue_from is not None)


def take(training: TrainingSpec, origins: Mapping[str, Origin]) -> TrainingSpec:
    """The training with a path beside each job. `origins` are by the field that names them."""

    def taken(path: str, weights: Weights) -> Weights:
        origin = origins.get(f"{path}.from_job")
        return _output(weights, path, origin) if origin else weights

    filled = with_weights(training, taken)
    method = _quantisation(filled, origins.get("model.from_job")) or filled.method
    return replace(filled, model=_model(filled, origins), method=method, resume=_resume(filled.resume, origins))


def with_weights(training: TrainingSpec, change: Callable[[str, Weights], Weights]) -> TrainingSpec:
    """The training with each field of weights as `change` makes it of its path and value."""
    return _changed(training, "", change)


def strange_bases(taken: TrainingSpec, origins: Mapping[str, Origin]) -> Iterator[tuple[str, str]]:
    """The fields whose adapter was trained on another model than the one it is put on, and what is wrong."""
    for place, origin in origins.items():
        theirs, ours = origin.job.resolved.model, taken.model
        if stands_on_own_model(place) and _base(theirs) != _base(ours):
            found = f"is job {origin.job.id}, whose adapter belongs on {_base(theirs)[0]}"
            yield place, f"{found}, and the model is {_base(ours)[0]}; accepted is an adapter of the same model"


def lora_of(method: Method | None) -> Lora | None:
    """The method's LoRA part, if it has one."""
    match method:
        case Lora():
            return method
        case Qlora():
            return method.lora or Lora()
        case _:
            return None


def with_lora(method: Method, lora: Lora) -> Method:
    """The method with another LoRA part."""
    return replace(method, lora=lora) if isinstance(method, Qlora) else lora


def shaped_as(lora: Lora, adapter: Lora) -> tuple[Lora, list[tuple[str, str]]]:
    """The spec's LoRA in the shape of the adapter it goes on with, and the fields that ask for another shape."""
    names = [each.name for each in fields(Lora) if each.name not in _TRAINING_ONLY]
    problems = [
        (
            name,
            f"is {_shown(getattr(lora, name))}, and the adapter of continue_from has {_shown(getattr(adapter, name))}",
        )
        for name in names
        if getattr(lora, name) not in (None, (), {}) and getattr(lora, name) != getattr(adapter, name)
    ]
    return replace(lora, **{name: getattr(adapter, name) for name in names}), problems


def strange_checkpoint(resolved: TrainingSpec, theirs: TrainingSpec) -> Iterator[tuple[str, str]]:
    """What a checkpoint of the training `theirs` cannot be gone on with."""
    if _base(resolved.model) != _base(theirs.model):
        yield "model", f"is {_base(resolved.model)[0]}, and the checkpoint is of {_base(theirs.model)[0]}"
    for which, ours, other in (("stage", resolved.stage, theirs.stage), ("method", resolved.method, theirs.method)):
        if ours and other and type(ours) is not type(other):
            yield choice_name(ours), f"is the {which}, and the checkpoint is of {choice_name(other)}"
    lora, other = lora_of(resolved.method), lora_of(theirs.method)
    if lora and other:
        place = "qlora.lora" if isinstance(resolved.method, Qlora) else "lora"
        for name, text in shaped_as(lora, other)[1]:
            yield f"{place}.{name}", text.replace("adapter of continue_from", "checkpoint")
    if resolved.optimizer.name != theirs.optimizer.name:
        yield "optimizer.name", f"is {resolved.optimizer.name}, and the checkpoint is of {theirs.optimizer.name}"


def _model(training: TrainingSpec, origins: Mapping[str, Origin]) -> Model:
    model, lora = training.model, lora_of(training.method)
    origin = origins.get("model.from_job")
    if origin is None:
        origin = origins.get(_continued(training)) if lora and model == Model() else None
        return _base_model(model, origin.job) if origin else model
    theirs = origin.job.resolved
    kind = _checkpoint_kind(theirs) if origin.checkpoint else output_kind(theirs)
    folder = origin.checkpoint or origin.job.output_path
    if kind is Kind.MODEL:
        return replace(model, path=folder, from_job=origin.job.id)
    adapter = Weights(path=folder, from_job=origin.job.id)
    # An output brings along what it stands on.
    below = theirs.model.adapters if origin.checkpoint else ()
    return replace(_base_model(model, origin.job), adapters=(*below, adapter, *model.adapters))


def _quantisation(training: TrainingSpec, origin: Origin | None) -> Qlora | None:
    """How the weights are quantised that an adapter has learnt on, where it is used and nothing is trained."""
    if origin is None or not isinstance(training.stage, Inference):
        return None
    theirs = origin.job.resolved
    adapter = output_kind(theirs) is Kind.ADAPTER or origin.checkpoint
    return replace(theirs.method, lora=None) if adapter and isinstance(theirs.method, Qlora) else None


def _resume(resume: Resume | None, origins: Mapping[str, Origin]) -> Resume | None:
    origin = origins.get("resume.from_job")
    if origin is None or not origin.checkpoint:
        return resume
    return Resume(origin.checkpoint, origin.job.id, origin.checkpoint.rpartition("/")[2])


def _base_model(model: Model, job: Job) -> Model:
    """The model that the job began with; the adapters it merged into that are in its output."""
    theirs = job.resolved.model
    return replace(
        model, path=theirs.path, hub_id=theirs.hub_id, revision=theirs.revision, from_job=theirs.from_job or job.id
    )


def _continued(training: TrainingSpec) -> str:
    return f"{'qlora.lora' if isinstance(training.method, Qlora) else 'lora'}.continue_from.from_job"


def _changed(record: R, path: str, change: Callable[[str, Weights], Weights]) -> R:
    if isinstance(record, Weights):
        return change(path, record)  # type: ignore[return-value]
    changes: dict[str, Any] = {}
    for name, where, value in _members(record, path):
        if isinstance(value, tuple):
            changes[name] = tuple(_changed(item, f"{where}[{index}]", change) for index, item in enumerate(value))
        else:
            changes[name] = _changed(value, where, change)
    return replace(record, **changes)


def _output(weights: Weights, path: str, origin: Origin) -> Weights:
    theirs = origin.job.resolved
    whole = stands_on_own_model(path) or is_whole(theirs)
    return replace(
        weights, path=origin.job.output_path, from_job=origin.job.id, base_path=None if whole else theirs.model.path
    )


def stands_on_own_model(field: str) -> bool:
    """Whether weights at this field go onto the training's own model."""
    return _name(field) in _ON_OWN_MODEL


def _records(record: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All records below one, each with its path."""
    for _, where, value in _members(record, path):
        items = [(f"{where}[{i}]", each) for i, each in enumerate(value)] if isinstance(value, tuple) else None
        for place, item in items or [(where, value)]:
            yield place, item
            yield from _records(item, place)


def _members(record: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """The fields that hold records or tuples of them: name, path and value."""
    for each in fields(record):
        value = getattr(record, each.name)
        if is_dataclass(value) or (isinstance(value, tuple) and value and is_dataclass(value[0])):
            shown = choice_name(value) if isinstance(value, Choice) else each.name
            yield each.name, f"{path}.{shown}" if path else shown, value


def _name(field: str) -> str:
    """The field that decides what fits: model.from_job -> from_job, model.adapters[0].from_job -> adapters."""
    parent = field.removesuffix(".from_job").rpartition(".")[2].partition("[")[0]
    return "from_job" if parent == "model" else parent


def _fitting(training: TrainingSpec, name: str) -> tuple[Kind, ...]:
    # An adapter that has no head of one number cannot be gone on with as a reward model, nor the other way round.
    if name == "continue_from" and isinstance(training.stage, Reward):
        return (Kind.REWARD_MODEL,)
    return FITS[name]


def _base(model: Model) -> tuple[str, str]:
    return model.path or model.hub_id or "no model", model.revision or ""


def _a(kind: Kind) -> str:
    return f"{'an' if kind is Kind.ADAPTER else 'a'} {kind}"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) and value else str(value)
