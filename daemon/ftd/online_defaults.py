"""Spells out the stages that write their own answers, as `ftd.resolve` does the rest. Pure.

The defaults are those of online.proto, and they stand in the code only here.
"""

from __future__ import annotations

from dataclasses import replace

from ftd.online import (
    Distill,
    ExactAnswer,
    Grpo,
    GrpoLoss,
    JsonValid,
    LengthBand,
    Online,
    Ppo,
    RegexMatch,
    RewardFunction,
    RewardKind,
    RewardModel,
    RewardScale,
    Rloo,
    Sampling,
    TagFormat,
    UserFunction,
)
from ftd.validate.online import GENERATIONS, reward_name

_COMPLETION = 256
_TAGS = ("think", "answer")


def spelled_out(stage: Online, longest: int) -> Online:
    """The stage with every field that applies, for prompts and answers of at most `longest` tokens together."""
    sampling = _sampling(stage.sampling or Sampling(), longest)
    match stage:
        case Grpo():
            epsilon = stage.epsilon or 0.2
            return replace(
                stage,
                rewards=_rewards(stage.rewards, sampling),
                sampling=sampling,
                generations=stage.generations or GENERATIONS,
                beta=_or(stage.beta, 0.0),
                epsilon=epsilon,
                epsilon_high=stage.epsilon_high or epsilon,
                iterations=stage.iterations or 1,
                loss=stage.loss or GrpoLoss.DAPO,
                scale_rewards=stage.scale_rewards or RewardScale.GROUP,
                mask_truncated=bool(stage.mask_truncated),
            )
        case Rloo():
            epsilon = stage.epsilon or 0.2
            return replace(
                stage,
                rewards=_rewards(stage.rewards, sampling),
                sampling=sampling,
                generations=stage.generations or GENERATIONS,
                beta=_or(stage.beta, 0.05),
                epsilon=epsilon,
                epsilon_high=stage.epsilon_high or epsilon,
                iterations=stage.iterations or 1,
                mask_truncated=bool(stage.mask_truncated),
                normalize_advantages=bool(stage.normalize_advantages),
            )
        case Ppo():
            return replace(
                stage,
                rewards=_rewards(stage.rewards, sampling),
                sampling=sampling,
                beta=_or(stage.beta, 0.05),
                epsilon=stage.epsilon or 0.2,
                value_epsilon=stage.value_epsilon or 0.2,
                value_weight=stage.value_weight or 0.1,
                gamma=stage.gamma or 1.0,
                gae_lambda=_or(stage.gae_lambda, 0.95),
                iterations=stage.iterations or 4,
            )
        case Distill():
            return replace(stage, sampling=sampling, beta=_or(stage.beta, 1.0))


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _sampling(sampling: Sampling, longest: int) -> Sampling:
    return Sampling(
        max_completion_length=sampling.max_completion_length or min(_COMPLETION, longest // 2),
        temperature=sampling.temperature or 1.0,
        top_p=sampling.top_p or 1.0,
        top_k=sampling.top_k or 0,
        repetition_penalty=sampling.repetition_penalty or 1.0,
    )


def _rewards(rewards: tuple[RewardFunction, ...], sampling: Sampling) -> tuple[RewardFunction, ...]:
    return tuple(
        RewardFunction(reward_name(each), each.weight or 1.0, each.kind and _kind(each.kind, sampling))
        for each in rewards
    )


def _kind(kind: RewardKind, sampling: Sampling) -> RewardKind:
    match kind:
        case ExactAnswer():
            return replace(kind, numbers=bool(kind.numbers))
        case RegexMatch():
            return replace(kind, whole=bool(kind.whole))
        case LengthBand():
            return LengthBand(kind.min_tokens or 0, kind.max_tokens or sampling.max_completion_length)
        case TagFormat():
            return TagFormat(kind.tags or _TAGS)
        case UserFunction():
            return replace(kind, function=kind.function or "rewards")
        case JsonValid() | RewardModel():
            return kind
