"""What a stage that trains nothing takes of a spec: a table of its fields, and all that is refused because of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftd.inference import Chat, Evaluate, Export, Inference
from ftd.spec import DeviceKind, TrainingSpec, choice_name
from ftd.validate import outputs
from ftd.validate.problems import Problem, Rule, listed

_CONVERSATIONS = ("chat_template_path", "template", "default_system", "enable_thinking", "thinking")
# The fields that each of them uses, by section, beside the model, the seed, the devices and output.path.
USED: Mapping[type[Inference], Mapping[str, tuple[str, ...]]] = {
    Evaluate: {
        "data": ("eval", "max_length", "long_rows", "strict", *_CONVERSATIONS),
        "evaluation": ("micro_batch", "generation"),
        "compute": ("precision", "padding_free"),
        "output": ("path",),
    },
    Export: {"output": ("path", "dtype", "max_shard_bytes", "gguf", "ollama", "push")},
    Chat: {"data": ("max_length", *_CONVERSATIONS), "compute": ("precision",)},
}
_SECTIONS = ("data", "optimizer", "schedule", "batch", "compute", "evaluation", "checkpoints", "output")
_LONGEST_IDLE_SECONDS = 86400
_UNSET: tuple[object, ...] = (None, (), {})


def _unused(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    stage = training.stage
    if not isinstance(stage, Inference):
        return
    name, used = choice_name(stage), USED[type(stage)]
    for section in _SECTIONS:
        record, fields = getattr(training, section), used.get(section, ())
        for field in record.__dataclass_fields__:
            if field not in fields and getattr(record, field) not in _UNSET:
                accepted = f"; of {section} it uses {listed(fields, 'and')}" if fields else ""
                yield f"{section}.{field}", f"is given, but {name} does not use it{accepted}; leave it out"
    if training.method is not None:
        yield choice_name(training.method), f"is given, but {name} trains nothing; leave it out"
    if training.resume is not None:
        yield "resume", f"is given, but {name} trains nothing; leave it out"
    if (training.resources.gpus or 1) > 1:
        yield "resources.gpus", f"is {training.resources.gpus}, but {name} runs on one device; accepted is 1"


def _rows(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    if isinstance(training.stage, Evaluate) and not training.data.eval:
        yield "data.eval", "is empty; accepted is at least one source with a path"


def _idle(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    if isinstance(training.stage, Chat):
        seconds = training.stage.idle_seconds
        if seconds is not None and not 0 < seconds <= _LONGEST_IDLE_SECONDS:
            yield "chat.idle_seconds", f"is {seconds:g}; accepted is above 0, up to {_LONGEST_IDLE_SECONDS}"


def _files(training: TrainingSpec, device: DeviceKind) -> Iterator[Problem]:
    for rule in outputs.RULES if isinstance(training.stage, Export) else ():
        yield from rule(training, device)


RULES: tuple[Rule, ...] = (_unused, _rows, _idle, _files)
