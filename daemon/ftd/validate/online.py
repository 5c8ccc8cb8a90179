"""How the fields of the stages that write their own answers go together: rewards, answers to a prompt, lengths."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftd.datasets import LongRows
from ftd.limits import ABSOLUTE_PATH, shown
from ftd.online import (
    Distill,
    ExactAnswer,
    Grpo,
    LengthBand,
    Online,
    Ppo,
    RegexMatch,
    Rewarded,
    RewardFunction,
    RewardKind,
    RewardModel,
    Rloo,
    UserFunction,
)
from ftd.spec import DeviceKind, TrainingSpec, choice_name
from ftd.validate.problems import Problem, Rule, listed

GENERATIONS = 8
_KINDS = ("exact_answer", "regex_match", "length_band", "tag_format", "json_valid", "reward_model", "user_function")


def reward_name(reward: RewardFunction) -> str:
    """What metrics call it; empty while it has no kind."""
    return reward.name or (choice_name(reward.kind) if reward.kind else "")


def generations(stage: Online) -> int:
    """Answers to each prompt."""
    return stage.generations or GENERATIONS if isinstance(stage, Grpo | Rloo) else 1


def iterations(stage: Online) -> int:
    """Updates on the same answers."""
    return 1 if isinstance(stage, Distill) else stage.iterations or 1


def _online(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    stage = training.stage
    if not isinstance(stage, Online):
        return
    name = choice_name(stage)
    if isinstance(stage, Rewarded):
        yield from _rewards(name, stage.rewards)
    if isinstance(stage, Distill) and stage.teacher is None:
        yield "distill.teacher", "is missing; accepted is distill.teacher.path or distill.teacher.from_job"
    if isinstance(stage, Ppo) and (training.resources.gpus or 1) > 1:
        yield "resources.gpus", f"is {training.resources.gpus}, but ppo runs on one; leave it out"
    yield from _lengths(name, stage, training)
    if training.data.long_rows is LongRows.TRUNCATE:
        yield (
            "data.long_rows",
            f"is truncate, but a prompt that is cut is another one; accepted with {name}: drop, refuse",
        )
    if training.compute.padding_free:
        yield "compute.padding_free", f"is on, but {name} writes answers in padded batches; leave it out"


def _lengths(name: str, stage: Online, training: TrainingSpec) -> Iterator[Problem]:
    wanted, longest = stage.sampling and stage.sampling.max_completion_length, training.data.max_length
    if wanted and longest and wanted >= longest:
        text = f"is {wanted}, but data.max_length, which bounds prompt and answer, is {longest}; accepted is less"
        yield f"{name}.sampling.max_completion_length", text
    rows, answers = training.batch.global_batch, generations(stage)
    if rows is not None and rows % answers:
        text = f"is {rows}, but each prompt has {answers} answers ({name}.generations); accepted is a multiple of that"
        yield "batch.global_batch", text


def _rewards(stage: str, rewards: tuple[RewardFunction, ...]) -> Iterator[Problem]:
    if not rewards:
        yield f"{stage}.rewards", f"is empty; accepted is at least one of {listed(_KINDS, 'or')}"
    names = [reward_name(each) for each in rewards]
    for index, reward in enumerate(rewards):
        place = f"{stage}.rewards[{index}]"
        if reward.kind is None:
            yield place, f"has no kind; accepted is {listed(_KINDS, 'or')}"
            continue
        if names[index] in names[:index]:
            yield f"{place}.name", f"is {names[index]} again; accepted is each name once"
        where = f"{place}.{choice_name(reward.kind)}"
        for field, text in _kind(reward.kind):
            yield f"{where}.{field}", text


def _kind(kind: RewardKind) -> Iterator[Problem]:
    match kind:
        case ExactAnswer(pattern=pattern) | RegexMatch(pattern=pattern):
            if pattern is None and isinstance(kind, RegexMatch):
                yield "pattern", "is missing; accepted is a regular expression"
            yield from _pattern(pattern or "")
        case LengthBand(min_tokens=least, max_tokens=most):
            if least and most and least > most:
                yield "min_tokens", f"is {least}, over max_tokens {most}; accepted is at most that"
        case RewardModel(weights=None):
            yield "weights", "is missing; accepted is weights.path or weights.from_job, the output of a reward job"
        case UserFunction(path=None):
            yield "path", "is missing; accepted is the absolute path of a Python file"
        case UserFunction(path=path) if not ABSOLUTE_PATH.test(path):
            yield "path", f"is {shown(path)}; accepted is {ABSOLUTE_PATH.accepted}"
        case _:
            return


def _pattern(pattern: str) -> Iterator[Problem]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        yield "pattern", f"is {shown(pattern)}, which is no regular expression: {error}; accepted is one"


RULES: tuple[Rule, ...] = (_online,)
