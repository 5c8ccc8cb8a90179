"""The objectives whose model writes the answers it is trained on: frozen dataclasses that mirror online.proto.

Defaults and limits stand in proto/finetuned/v1/online.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from ftd.weights import Weights


class GrpoLoss(StrEnum):
    """How the loss of tokens becomes that of an update."""

    GRPO = auto()
    BNPO = auto()
    DR_GRPO = auto()
    DAPO = auto()


class RewardScale(StrEnum):
    """What the advantages of answers are divided by."""

    GROUP = auto()
    BATCH = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn."""

    max_completion_length: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ExactAnswer:
    """1 for the reference answer."""

    pattern: str | None = None
    numbers: bool | None = None


@dataclass(frozen=True, slots=True)
class RegexMatch:
    """1 where the answer fits."""

    pattern: str | None = None
    whole: bool | None = None


@dataclass(frozen=True, slots=True)
class LengthBand:
    """1 for a length within both limits."""

    min_tokens: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TagFormat:
    """1 for an answer that consists of these tags."""

    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JsonValid:
    """1 for JSON."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RewardModel:
    """The score of a reward model."""

    weights: Weights | None = None


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of a Python file."""

    path: str | None = None
    function: str | None = None


RewardKind = ExactAnswer | RegexMatch | LengthBand | TagFormat | JsonValid | RewardModel | UserFunction


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """What makes an answer worth something."""

    name: str | None = None
    weight: float | None = None
    kind: RewardKind | None = None


@dataclass(frozen=True, slots=True)
class Grpo:
    """Group relative policy optimisation."""

    rewards: tuple[RewardFunction, ...] = ()
    sampling: Sampling | None = None
    generations: int | None = None
    beta: float | None = None
    epsilon: float | None = None
    epsilon_high: float | None = None
    iterations: int | None = None
    loss: GrpoLoss | None = None
    scale_rewards: RewardScale | None = None
    mask_truncated: bool | None = None


@dataclass(frozen=True, slots=True)
class Rloo:
    """REINFORCE with the other answers as the baseline."""

    rewards: tuple[RewardFunction, ...] = ()
    sampling: Sampling | None = None
    generations: int | None = None
    beta: float | None = None
    epsilon: float | None = None
    epsilon_high: float | None = None
    iterations: int | None = None
    mask_truncated: bool | None = None
    normalize_advantages: bool | None = None


@dataclass(frozen=True, slots=True)
class Ppo:
    """Proximal policy optimisation."""

    rewards: tuple[RewardFunction, ...] = ()
    sampling: Sampling | None = None
    beta: float | None = None
    epsilon: float | None = None
    value_epsilon: float | None = None
    value_weight: float | None = None
    gamma: float | None = None
    gae_lambda: float | None = None
    iterations: int | None = None


@dataclass(frozen=True, slots=True)
class Distill:
    """A teacher's probabilities of what the model itself writes."""

    teacher: Weights | None = None
    sampling: Sampling | None = None
    beta: float | None = None


Online = Grpo | Rloo | Ppo | Distill
Rewarded = Grpo | Rloo | Ppo
