"""The objectives a training may have, and what else is done with a model: the members of the oneof `stage`.

Frozen dataclasses that mirror the messages field by field. Defaults and limits stand in
proto/finetuned/v1/training.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from ftd.inference import Inference
from ftd.online import Distill, Grpo, Ppo, Rloo
from ftd.weights import Weights


class SftLoss(StrEnum):
    """Loss of supervised fine-tuning, named as TRL names it."""

    NLL = auto()
    DFT = auto()


class TrainOn(StrEnum):
    """Which turns the loss is computed on."""

    ASSISTANT = auto()
    LAST_ASSISTANT = auto()
    ALL = auto()


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = auto()
    USER = auto()
    ASSISTANT = auto()
    TOOL = auto()


class DpoLoss(StrEnum):
    """Loss of direct preference optimisation."""

    SIGMOID = auto()
    HINGE = auto()
    IPO = auto()
    ROBUST = auto()
    EXO_PAIR = auto()
    NCA_PAIR = auto()
    BCO_PAIR = auto()
    SPPO_HARD = auto()
    AOT = auto()
    AOT_UNPAIRED = auto()
    APO_ZERO = auto()
    APO_DOWN = auto()
    DISCOPOP = auto()
    SFT = auto()
    SIGMOID_NORM = auto()


class CpoLoss(StrEnum):
    """Loss of contrastive preference optimisation."""

    SIGMOID = auto()
    HINGE = auto()
    IPO = auto()
    SIMPO = auto()


@dataclass(frozen=True, slots=True)
class Sft:
    """Supervised fine-tuning."""

    train_on: TrainOn | None = None
    loss: SftLoss | None = None
    roles: tuple[Role, ...] = ()
    train_on_thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class Pretrain:
    """Continued pre-training on plain text."""


@dataclass(frozen=True, slots=True)
class WeightedDpoLoss:
    """One of several losses."""

    loss: DpoLoss | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Dpo:
    """Direct preference optimisation."""

    beta: float | None = None
    loss: DpoLoss | None = None
    label_smoothing: float | None = None
    losses: tuple[WeightedDpoLoss, ...] = ()
    ld_alpha: float | None = None
    reference: Weights | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward model."""

    center_coefficient: float | None = None


@dataclass(frozen=True, slots=True)
class Kto:
    """Kahneman-Tversky optimisation on answers with a label."""

    beta: float | None = None
    desirable_weight: float | None = None
    undesirable_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Orpo:
    """Odds ratio preference optimisation."""

    beta: float | None = None


@dataclass(frozen=True, slots=True)
class Cpo:
    """Contrastive preference optimisation; with the loss simpo, SimPO."""

    beta: float | None = None
    loss: CpoLoss | None = None
    label_smoothing: float | None = None
    nll_weight: float | None = None
    gamma: float | None = None


Objective = Sft | Pretrain | Dpo | Reward | Kto | Orpo | Cpo | Grpo | Rloo | Ppo | Distill
Stage = Objective | Inference
