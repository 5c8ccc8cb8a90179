"""What answers are worth: each reward of a spec as a function of a batch of answers, called as TRL calls functions.

A reward gives a number for each answer, or None where it has nothing to say. To add a kind is to add its builder to
KINDS. It must never raise for what a model has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from finetuned.v1 import event_pb2, online_pb2, weights_pb2
from fttrain.failure import Refused
from fttrain.report import Report
from fttrain.rewards import rules
from fttrain.rewards.functions import load_function
from fttrain.rewards.scores import Scores

LoadWeights = Callable[[str, weights_pb2.Weights], Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to prompts, in one order. `references` are empty where the row has none."""

    prompt_ids: Sequence[list[int]]
    ids: Sequence[list[int]]
    texts: Sequence[str]
    references: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tools:
    """What rewards are built with: the tokenizer of what is trained, and how frozen weights are loaded."""

    tokenizer: Any
    # Of a field, by its path, its weights as a reward model.
    load: LoadWeights
    report: Report


Values = Iterable[float | None]
Judge = Callable[[Answers], Values]


class Reward(Protocol):
    """As TRL calls it."""

    __name__: str

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, answer: Any, **others: Any) -> Any:
        """A number for each completion."""


def build(rewards: Iterable[online_pb2.RewardFunction], place: str, tools: Tools) -> list[Reward]:
    """The rewards of a stage, in their order. `place` is the field they stand in. Raises Refused, OSError."""
    found: list[Reward] = []
    for index, reward in enumerate(rewards):
        kind = str(reward.WhichOneof("kind"))
        where = f"{place}[{index}].{kind}"
        try:
            judge = KINDS[kind](getattr(reward, kind), where, tools)
        except ValueError as error:
            raise Refused(
                event_pb2.FAILURE_CLASS_INTERNAL, f"{where}: {error}", "correct it and submit again"
            ) from None
        found.append(_named(reward.name, judge))
    return found


def _named(name: str, judge: Judge) -> Reward:
    """TRL hands over whatever it knows, and asks a function for its name."""

    def reward(prompts: Any, completions: Any, completion_ids: Any, answer: Any, **_: Any) -> list[float | None]:
        return list(judge(Answers(prompts, completion_ids, completions, answer)))

    reward.__name__ = name
    return reward


def _exact_answer(given: online_pb2.ExactAnswer, where: str, tools: Tools) -> Judge:
    pattern = rules.compiled(given.pattern) if given.HasField("pattern") else None
    judge = partial(rules.exact_answer, pattern=pattern, numbers=given.numbers)
    bounded = _Bounded(where, tools.report)
    return lambda answers: [
        bounded(judge, text, reference) if reference else None
        for text, reference in zip(answers.texts, answers.references, strict=True)
    ]


def _regex_match(given: online_pb2.RegexMatch, where: str, tools: Tools) -> Judge:
    judge = partial(rules.regex_match, pattern=rules.compiled(given.pattern), whole=given.whole)
    bounded = _Bounded(where, tools.report)
    return lambda answers: [bounded(judge, text) for text in answers.texts]


def _length_band(given: online_pb2.LengthBand, _where: str, _tools: Tools) -> Judge:
    return lambda answers: [rules.length_band(len(ids), given.min_tokens, given.max_tokens) for ids in answers.ids]


def _tag_format(given: online_pb2.TagFormat, _where: str, _tools: Tools) -> Judge:
    return lambda answers: [rules.tag_format(text, given.tags) for text in answers.texts]


def _json_valid(given: online_pb2.JsonValid, _where: str, _tools: Tools) -> Judge:
    return lambda answers: [rules.json_valid(text, given.keys) for text in answers.texts]


def _reward_model(given: online_pb2.RewardModel, where: str, tools: Tools) -> Judge:
    scores = Scores(tools.load(f"{where}.weights", given.weights), tools.tokenizer)
    return lambda answers: scores([[*p, *c] for p, c in zip(answers.prompt_ids, answers.ids, strict=True)])


def _user_function(given: online_pb2.UserFunction, where: str, tools: Tools) -> Judge:
    function = load_function(given.path, given.function, where)

    def judge(answers: Answers) -> Values:
        prompts = tools.tokenizer.batch_decode(answers.prompt_ids)
        return function(prompts, list(answers.texts), [reference or None for reference in answers.references])

    return judge


KINDS: dict[str, Callable[[Any, str, Tools], Judge]] = {
    "exact_answer": _exact_answer,
    "regex_match": _regex_match,
    "length_band": _length_band,
    "tag_format": _tag_format,
    "json_valid": _json_valid,
    "reward_model": _reward_model,
    "user_function": _user_function,
}


class _Bounded:
    """Takes an answer that a pattern needs too long for as one that does not fit, and says so once."""

    def __init__(self, where: str, report: Report) -> None:
        self._where = where
        self._report = report
        self._told = False

    def __call__(self, judge: Callable[..., float], *texts: str) -> float:
        try:
            return judge(*texts)
        except TimeoutError:
            if not self._told:
                self._report.notice(
                    f"{self._where}: the pattern takes over {rules.PATTERN_SECONDS:g} s on an answer, which counts as 0"
                )
            self._told = True
            return 0.0
