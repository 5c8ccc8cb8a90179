"""The door for jobs: everything that can be known of a spec before anything is queued, all problems at once.

Joins the checks of the text (`ftd.validate`), of the files it names, of the model and of the devices, then spells out
the training and estimates its memory. Reads files, so it blocks: call it in a thread. It changes nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftd import memory
from ftd.abilities import unable
from ftd.adapters import settle
from ftd.beside import parameters_beside
from ftd.capacity import device_kind, missing_devices, most_it_may_need, too_large
from ftd.datasets import Data, DataSource, Format
from ftd.errors import InvalidSpec, TooLarge, Violation
from ftd.limits import NAME, is_usable_path
from ftd.measured import Measurement, Subject
from ftd.models import HostPolicy, ModelInfo, read_model
from ftd.names import default_name
from ftd.online import Rewarded, UserFunction
from ftd.origins import Taken
from ftd.paths import PathRefused, PathRoots, Roots
from ftd.records import MemoryEstimate
from ftd.resolve import resolve
from ftd.secrets import SecretRefused
from ftd.sources import Sent, SourceFinder
from ftd.spec import Attention, DeviceKind, JobSpec, Model, Output, TrainingSpec, choice_name
from ftd.stages import Pretrain, Sft
from ftd.validate import check
from ftd.validate.outputs import GGUF_MODELS
from ftsched.fixes import Fix
from ftsched.model import Device
from ftsched.shapes import NotAModel, shape_of

DEFAULT_PROJECT = "default"
_TEMPLATE_BYTES = 1024**2
# Enough of a file to see the first row of nearly any; the preparation reads the rest.
_PEEKED_BYTES = 65536
# What ran out of memory needs more than was estimated, so a change must save more than nothing.
_CLEARLY = 0.9
_MANIFEST = 16 * 1024**2
_CHAT_FORMATS = (Format.ALPACA, Format.SHAREGPT, Format.MESSAGES)
# Where an uploaded data set lies the daemon knows itself.
_SENT = Roots((Path("/"),))
_CHAT_COLUMNS = {"messages", "conversations", "instruction"}


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a good spec becomes: its names, the training with every default, and its memory at max_length."""

    name: str
    project: str
    resolved: TrainingSpec
    estimate: MemoryEstimate


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes specs for a host with these folders and this policy."""

    roots: PathRoots
    policy: HostPolicy
    # What was measured with a model and a method before, by their keys.
    measured: Callable[[str, str], tuple[Measurement, ...]] = lambda model, method: ()

    def accept(
        self,
        spec: JobSpec,
        devices: Sequence[Device],
        taken: Taken | None = None,
        sent: Mapping[str, Sent] | None = None,
    ) -> Accepted:
        """Checks and resolves a spec. Raises InvalidSpec with every violation that can be found.

        `taken` is its training with what it takes from other jobs; None: it takes nothing. `sent` are the data sets it
        names, as far as there are any.
        """
        taken = taken or Taken(spec.training)
        training, shaped = settle(taken.training, taken.origins, self.roots.models)
        device = device_kind(training.resources, devices)
        model, found = self._described(training, taken)
        data, missing = SourceFinder(self.roots.data, self.policy.data_urls, sent or {}).find(
            training.data, pretrain=isinstance(training.stage, Pretrain)
        )
        training = replace(training, data=data)
        # Of a source that was not found, nothing else is said about its path.
        pathless = {f"{each.field.rpartition('.')[0]}.path" for each in missing}
        text = check(replace(spec, training=replace(spec.training, data=data)), device)
        violations = [
            *taken.problems,
            *(each for each in text if each.field not in pathless),
            *found,
            *shaped,
            *self._checkpoint(training, taken),
            *missing,
            *self._sources(training, model),
            *self._template_file(training.data),
            *_user_functions(training, self.policy),
            *self._output(training.output),
            *_beyond_model(training, model),
            *unable(training, model),
            *_attention(training.model, device, model),
            *_gguf(training, model),
            *_push(training, self.policy),
            *missing_devices(training.resources, device, devices),
        ]
        if violations:
            raise InvalidSpec(violations)
        resolved = resolve(training, device, model)
        longest = resolved.data.max_length or 0
        needed = self._estimate(resolved, model, longest)
        limit = most_it_may_need(resolved, needed, devices)
        if limit is not None:
            fixes = memory.fixes(resolved, model.config if model else {}, longest, limit, parameters_beside(resolved))
            told = [memory.told(fix, longest) for fix in fixes]
            raise TooLarge([too_large(resolved, needed, limit, fixes)], told)
        return Accepted(spec.name or default_name(resolved), spec.project or DEFAULT_PROJECT, resolved, needed)

    def estimate(self, resolved: TrainingSpec, sequence_length: int) -> MemoryEstimate:
        """Memory at the longest sequence the data has, in tokens. Raises InvalidSpec if the model is gone."""
        model, violations = self._model(resolved)
        if violations:
            raise InvalidSpec(violations)
        return self._estimate(resolved, model, sequence_length)

    def fixes(self, resolved: TrainingSpec, sequence_length: int) -> tuple[Fix, ...]:
        """What would make a training clearly smaller, the cheapest first. Raises InvalidSpec if the model is gone."""
        model, violations = self._model(resolved)
        if violations:
            raise InvalidSpec(violations)
        if model is None:
            return ()
        beside = parameters_beside(resolved)
        needed = memory.estimate(resolved, model.config, sequence_length, beside=beside).reserve_bytes
        return memory.fixes(resolved, model.config, sequence_length, int(needed * _CLEARLY), beside)

    def subject(self, resolved: TrainingSpec, sequence_length: int) -> tuple[Subject, int] | None:
        """What a run of this training measures, and the peak by arithmetic; None if the model is not at hand."""
        model, violations = self._model(resolved)
        if model is None or violations:
            return None
        beside = parameters_beside(resolved)
        subject = memory.subject(resolved, model.config, sequence_length, beside)
        return subject, memory.arithmetic_peak(resolved, model.config, sequence_length, beside)

    def history(self, resolved: TrainingSpec, sequence_length: int) -> tuple[Measurement, ...]:
        """Runs of the very same model, method and shape, the oldest first."""
        found = self.subject(resolved, sequence_length)
        if found is None:
            return ()
        runs = self.measured(found[0].model, found[0].method)
        return tuple(run for run in runs if run.subject == found[0])

    def _estimate(self, resolved: TrainingSpec, model: ModelInfo | None, sequence_length: int) -> MemoryEstimate:
        config, beside = model.config if model else {}, parameters_beside(resolved)
        runs: tuple[Measurement, ...] = ()
        if model is not None:
            subject = memory.subject(resolved, config, sequence_length, beside)
            runs = self.measured(subject.model, subject.method)
        return memory.estimate(resolved, config, sequence_length, runs=runs, beside=beside)

    def _described(self, training: TrainingSpec, taken: Taken) -> tuple[ModelInfo | None, list[Violation]]:
        """The model of a new training, before it may be there."""
        if training.model.from_job is not None and not taken.origins:
            # What is wrong with the job that it names is said elsewhere.
            return None, []
        model = replace(training.model, path=taken.described_by or training.model.path)
        info, violations = self._model(replace(training, model=model))
        if info is not None and taken.has_template:
            info = replace(info, has_chat_template=True)
        return info, violations

    def _model(self, training: TrainingSpec) -> tuple[ModelInfo | None, list[Violation]]:
        """The model, None if its folder is not on this host, and what is wrong with it."""
        path = training.model.path
        if path is None and training.model.hub_id is not None:
            return None, list(_hub(training, self.policy))
        if path is None or not is_usable_path(path):
            return None, []
        # What a job left, or trained on, was found by us and lies where that job was allowed to put it.
        roots = Roots((Path(path),)) if training.model.from_job else self.roots.models
        model, problems = read_model(path, roots, self.policy)
        if model is not None and not problems:
            problems = list(_decoder(model))
        return model, [Violation("training.model.path", problem) for problem in problems]

    def _sources(self, training: TrainingSpec, model: ModelInfo | None) -> Iterator[Violation]:
        data = training.data
        conversations = ""
        for split in ("train", "eval"):
            for index, source in enumerate(getattr(data, split)):
                if not source.files:
                    continue
                where = f"data.{split}[{index}]"
                try:
                    row = _first_row(self.roots.data if source.dataset is None else _SENT, source.files[0])
                except PathRefused as refused:
                    yield Violation(f"training.{where}.path", str(refused))
                    continue
                if not conversations and _is_conversation(source, row):
                    conversations = where
        renders = conversations and not isinstance(training.stage, Pretrain)
        if renders and model and not model.has_chat_template and not (data.template or data.chat_template_path):
            text = f"is missing: {conversations} has conversations, and the model has no chat template of its own"
            yield Violation(
                "training.data.template", f"{text}; accepted is a template's name, or data.chat_template_path"
            )

    def _template_file(self, data: Data) -> Iterator[Violation]:
        path = data.chat_template_path
        if path is None or not is_usable_path(path):
            return
        # A template often lies beside a model.
        roots = Roots((*self.roots.data.folders, *self.roots.models.folders))
        problem = "is empty; accepted is a Jinja template"
        try:
            if roots.read(path, _TEMPLATE_BYTES).strip():
                return
        except PathRefused as refused:
            problem = str(refused)
        yield Violation("training.data.chat_template_path", problem)

    def _checkpoint(self, training: TrainingSpec, taken: Taken) -> Iterator[Violation]:
        """What is wrong with the folder of a checkpoint that the spec itself names."""
        path = training.resume.path if training.resume else None
        if path is None or not is_usable_path(path) or "resume.from_job" in taken.origins:
            return
        try:
            Roots((*self.roots.models.folders, *self.roots.outputs.folders)).read(f"{path}/manifest.json", _MANIFEST)
        except PathRefused as refused:
            text = f"{refused}; a checkpoint is a folder with its manifest.json"
            yield Violation("training.resume.path", text)

    def _output(self, output: Output) -> Iterator[Violation]:
        if output.path is None or not is_usable_path(output.path):
            return
        problem = "exists already; accepted is a path where nothing is yet"
        try:
            self.roots.outputs.check(output.path)
            if not os.path.lexists(output.path):
                return
        except PathRefused as refused:
            problem = str(refused)
        yield Violation("training.output.path", problem)


def _decoder(model: ModelInfo) -> Iterator[str]:
    try:
        shape_of(model.config)
    except NotAModel as error:
        yield f"is not a decoder whose memory can be estimated: {error}; accepted is a causal language model"


def _user_functions(training: TrainingSpec, policy: HostPolicy) -> Iterator[Violation]:
    """What is wrong with the files that a job would run code of."""
    rewards = training.stage.rewards if isinstance(training.stage, Rewarded) else ()
    for index, reward in enumerate(rewards):
        path = reward.kind.path if isinstance(reward.kind, UserFunction) else None
        if path is None or not is_usable_path(path):
            continue
        field = f"training.{choice_name(training.stage or Sft())}.rewards[{index}].user_function.path"
        if not policy.code_roots:
            yield Violation(field, "is given, but this host runs no code of users; leave it out, or ask its owner")
            continue
        try:
            os.close(Roots(policy.code_roots).open(path, "file"))
        except PathRefused as refused:
            yield Violation(field, str(refused))


def _hub(training: TrainingSpec, policy: HostPolicy) -> Iterator[Violation]:
    if not policy.allow_hub:
        text = "is given, but this host does not fetch models from a hub; accepted is model.path"
        yield Violation("training.model.hub_id", text)
    elif training.resources.memory_bytes is None:
        text = "is missing, but a model on a hub cannot be estimated before it is here; accepted is a number of bytes"
        yield Violation("training.resources.memory_bytes", text)


def _first_row(roots: Roots, path: str) -> dict[str, Any]:
    """The first row of a .jsonl file where it is short; else nothing. Raises PathRefused if the file cannot be used."""
    with os.fdopen(roots.open(path, "file"), "rb") as file:
        head = file.read(_PEEKED_BYTES)
    if not head:
        raise PathRefused("is empty; accepted is a file with at least one row")
    try:
        row = json.loads(head.partition(b"\n")[0]) if path.endswith(".jsonl") else {}
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _is_conversation(source: DataSource, row: dict[str, Any]) -> bool:
    """Whether rows need a chat template, as far as the spec or the first row tells."""
    if source.format in (None, Format.PREFERENCE, Format.KTO):
        return bool(_CHAT_COLUMNS & row.keys()) or isinstance(row.get("chosen"), list | dict)
    return source.format in _CHAT_FORMATS


def _beyond_model(training: TrainingSpec, model: ModelInfo | None) -> Iterator[Violation]:
    """More tokens than the model reads."""
    length, longest = training.data.max_length, model.max_length if model else None
    if length is not None and longest is not None and length > longest:
        text = f"is {length}, but the model reads at most {longest} tokens; accepted is 8 to {longest}"
        yield Violation("training.data.max_length", text)


def _gguf(training: TrainingSpec, model: ModelInfo | None) -> Iterator[Violation]:
    kind = model.config.get("model_type") if model else None
    if training.output.gguf and kind is not None and kind not in GGUF_MODELS:
        text = (
            f"is given, but no GGUF files are written of models of type {kind}; accepted with {', '.join(GGUF_MODELS)}"
        )
        yield Violation("training.output.gguf", text)


def _push(training: TrainingSpec, policy: HostPolicy) -> Iterator[Violation]:
    push = training.output.push
    if push is None:
        return
    if not policy.allow_hub:
        yield Violation("training.output.push", "is given, but this host does not use a hub; leave it out")
    elif push.token_secret is not None and NAME.test(push.token_secret):
        try:
            policy.secrets.read(push.token_secret)
        except SecretRefused as refused:
            yield Violation("training.output.push.token_secret", str(refused))


def _attention(model: Model, device: DeviceKind, info: ModelInfo | None) -> Iterator[Violation]:
    if model.attention is Attention.SDPA and info is not None and not info.has_sdpa:
        kind = info.config["model_type"]
        text = f"is sdpa, which models of type {kind} do not have; accepted is eager, or flash_attention_2 on a GPU"
        yield Violation("training.model.attention", text)
    wanted = model.attention is Attention.FLASH_ATTENTION_2 and device is DeviceKind.GPU
    if wanted and importlib.util.find_spec("flash_attn") is None:
        text = "is flash_attention_2, but the package flash-attn is not installed here; accepted is sdpa or eager"
        yield Violation("training.model.attention", text)
