"""Which parameters a training may move: frozen dataclasses that mirror the messages of the oneof `method`, each field.

Defaults and limits stand in proto/finetuned/v1/training.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from ftd.weights import Weights


class QuantType(StrEnum):
    """4-bit number format."""

    NF4 = auto()
    FP4 = auto()


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
    continue_from: Weights | None = None


@dataclass(frozen=True, slots=True)
class Qlora:
    """LoRA over a base model quantised to 4 bits."""

    lora: Lora | None = None
    quant_type: QuantType | None = None
    double_quant: bool | None = None


@dataclass(frozen=True, slots=True)
class Full:
    """Every parameter is trained."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Only the last layers are trained."""

    trainable_layers: int | None = None


Method = Lora | Qlora | Full | Freeze
