"""Which parameters a training may move: frozen dataclasses that mirror the messages of the oneof `method`, each field.

Defaults and limits stand in proto/finetuned/v1/training.proto and adapters.proto. Nothing here checks anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

from ftd.weights import Weights


class Dtype(StrEnum):
    """Number format of weights and arithmetic."""

    FP32 = auto()
    BF16 = auto()
    FP16 = auto()


class QuantType(StrEnum):
    """Number format of quantised weights."""

    NF4 = auto()
    FP4 = auto()
    INT8 = auto()


class LoraInit(StrEnum):
    """What a LoRA adapter begins as."""

    DEFAULT = auto()
    GAUSSIAN = auto()
    PISSA = auto()
    OLORA = auto()
    ORTHOGONAL = auto()


# They change the base weights, so that the output is converted to an adapter for those as they were.
CHANGING_INITS = (LoraInit.PISSA, LoraInit.OLORA)


class LoraBias(StrEnum):
    """Which biases are trained beside an adapter."""

    NONE = auto()
    ALL = auto()
    LORA_ONLY = auto()


class Encoder(StrEnum):
    """The network that makes virtual tokens."""

    MLP = auto()
    LSTM = auto()


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters beside frozen weights."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    rslora: bool | None = None
    dora: bool | None = None
    exclude_modules: tuple[str, ...] = ()
    target_pattern: str | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    init: LoraInit | None = None
    pissa_iterations: int | None = None
    layers: tuple[int, ...] = ()
    bias: LoraBias | None = None
    loraplus_lr_ratio: float | None = None
    loraplus_embedding_lr: float | None = None
    continue_from: Weights | None = None


@dataclass(frozen=True, slots=True)
class Qlora:
    """LoRA over a quantised base model."""

    lora: Lora | None = None
    quant_type: QuantType | None = None
    double_quant: bool | None = None
    compute_dtype: Dtype | None = None
    storage_dtype: Dtype | None = None


@dataclass(frozen=True, slots=True)
class Full:
    """Every parameter is trained."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Only some of the layers are trained, the last or the first ones."""

    trainable_layers: int | None = None
    modules: tuple[str, ...] = ()
    extra_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adalora:
    """Low-rank adapters whose ranks go to the modules that need them."""

    initial_rank: int | None = None
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    initial_steps: int | None = None
    final_steps: int | None = None
    interval: int | None = None
    orthogonality: float | None = None


@dataclass(frozen=True, slots=True)
class Vera:
    """Two vectors for each module between random matrices."""

    rank: int | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    initial: float | None = None


@dataclass(frozen=True, slots=True)
class Oft:
    """Rotations in blocks."""

    block_size: int | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    share_blocks: bool | None = None
    constrained: bool | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class Boft:
    """Rotations in several sparse factors."""

    block_size: int | None = None
    factors: int | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ia3:
    """Factors of keys, values and the inner part of the MLP."""

    target_modules: tuple[str, ...] = ()
    feedforward_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrefixTuning:
    """Keys and values of virtual tokens in every layer."""

    virtual_tokens: int | None = None
    projection: bool | None = None
    encoder_hidden_size: int | None = None


@dataclass(frozen=True, slots=True)
class PromptTuning:
    """Embeddings of virtual tokens."""

    virtual_tokens: int | None = None
    initial_text: str | None = None


@dataclass(frozen=True, slots=True)
class PTuning:
    """Virtual tokens made by a small network."""

    virtual_tokens: int | None = None
    encoder: Encoder | None = None
    encoder_hidden_size: int | None = None
    encoder_dropout: float | None = None


Method = Lora | Qlora | Full | Freeze | Adalora | Vera | Oft | Boft | Ia3 | PrefixTuning | PromptTuning | PTuning
# The ones that put virtual tokens before each row.
PROMPTS = (PrefixTuning, PromptTuning, PTuning)
# The ones that choose modules by target_modules and modules_to_save alone.
TARGETED = (Adalora, Vera, Oft, Boft)


def as_saved(lora: Lora) -> Lora:
    """The adapter that a training with this one leaves."""
    if lora.init not in CHANGING_INITS:
        return lora
    rank, alpha = lora.rank or 0, lora.alpha or 0.0
    return replace(
        lora,
        init=LoraInit.DEFAULT,
        pissa_iterations=None,
        rank=2 * rank,
        alpha=alpha * (2**0.5 if lora.rslora else 2),
        rank_pattern={key: 2 * value for key, value in lora.rank_pattern.items()},
        alpha_pattern={key: 2 * value for key, value in lora.alpha_pattern.items()},
    )
