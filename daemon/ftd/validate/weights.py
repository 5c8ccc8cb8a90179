"""Which fields of weights go together: a folder or a job each, and what goes onto quantised weights."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.limits import ABSOLUTE_PATH, shown
from ftd.methods import Qlora
from ftd.origins import lora_of, stands_on_own_model, weights_in
from ftd.spec import DeviceKind, TrainingSpec
from ftd.validate.problems import Problem, Rule
from ftd.weights import Resume, Weights


def _weights(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    for path, weights in weights_in(training):
        yield from _one_source(path, weights, "the absolute path of a folder of weights")
        if weights.base_path is not None and weights.from_job is not None:
            yield f"{path}.base_path", "stands beside from_job, whose job knows its base model; leave it out"
        elif weights.base_path is not None and stands_on_own_model(path):
            yield f"{path}.base_path", "is given, but the adapter goes onto the training's own model; leave it out"


def _one_source(path: str, given: Weights | Resume, what: str) -> Iterator[Problem]:
    if given.path is None and given.from_job is None:
        yield f"{path}.path", f"is missing; accepted is {what}, or {path}.from_job instead"
    if given.path is not None and given.from_job is not None:
        yield f"{path}.from_job", f"stands beside {path}.path; accepted is one of the two"
    if given.from_job == "":
        yield f"{path}.from_job", "is ''; accepted is the id, a prefix of the id, or the name of a job"
    for name in ("path", "base_path"):
        value = getattr(given, name, None)
        if value is not None and not ABSOLUTE_PATH.test(value):
            yield f"{path}.{name}", f"is {shown(value)}; accepted is {ABSOLUTE_PATH.accepted}"


def _model(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    model, lora = training.model, lora_of(training.method)
    given = [name for name in ("path", "hub_id", "from_job") if getattr(model, name) is not None]
    known = lora is not None and lora.continue_from is not None and lora.continue_from.from_job is not None
    if not given and not known:
        text = (
            "is missing; accepted is the absolute path of a model folder, or a model.hub_id or model.from_job instead"
        )
        yield "model.path", text
    for name in given[1:]:
        yield f"model.{name}", f"stands beside model.{given[0]}; accepted is one of the two"
    if model.revision is not None and model.hub_id is None:
        yield "model.revision", "is given without model.hub_id; accepted only with that"
    if model.checkpoint is not None and model.from_job is None:
        yield "model.checkpoint", "is given without model.from_job; accepted only with that"
    if model.adapters and isinstance(training.method, Qlora):
        text = "are merged into the model, but qlora would round them to its few bits; accepted with another method"
        yield "model.adapters", text


def _resume(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    resume = training.resume
    if resume is None:
        return
    yield from _one_source("resume", resume, "the absolute path of a checkpoint's folder")
    if resume.checkpoint is not None and resume.from_job is None:
        yield "resume.checkpoint", "is given without resume.from_job; accepted only with that"


RULES: tuple[Rule, ...] = (_model, _weights, _resume)
