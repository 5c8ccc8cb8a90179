"""The data a training reads: frozen dataclasses that mirror the Data message and what it holds field by field.

Defaults and limits stand in proto/finetuned/v1/training.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto


class LongRows(StrEnum):
    """What to do with a row over max_length."""

    TRUNCATE = auto()
    DROP = auto()
    REFUSE = auto()


class Thinking(StrEnum):
    """Which assistant turns keep their thinking."""

    TEMPLATE = auto()
    KEEP = auto()
    LAST = auto()
    DROP = auto()


class Mixing(StrEnum):
    """How the rows of several training sources come together."""

    CONCAT = auto()
    INTERLEAVE_UNDER = auto()
    INTERLEAVE_OVER = auto()


class Format(StrEnum):
    """Shape of a data row."""

    ALPACA = auto()
    SHAREGPT = auto()
    MESSAGES = auto()
    PROMPT_COMPLETION = auto()
    TEXT = auto()
    PREFERENCE = auto()
    KTO = auto()
    PROMPT = auto()


@dataclass(frozen=True, slots=True)
class Columns:
    """Column names in the file where they differ from the format's own."""

    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    system: str | None = None
    history: str | None = None
    messages: str | None = None
    role: str | None = None
    content: str | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None
    only: bool | None = None
    tools: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Speakers:
    """What a file calls those who speak."""

    user: str | None = None
    assistant: str | None = None
    system: str | None = None
    tool: str | None = None
    function_call: str | None = None


@dataclass(frozen=True, slots=True)
class DataSource:
    """Files of rows."""

    path: str = ""
    format: Format | None = None
    columns: Columns | None = None
    weight: float | None = None
    max_samples: int | None = None
    name: str | None = None
    dataset_info: str | None = None
    num_samples: int | None = None
    shuffle: bool | None = None
    eval_split: float | None = None
    files: tuple[str, ...] = ()
    speakers: Speakers | None = None
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """What to train and evaluate on."""

    train: tuple[DataSource, ...] = ()
    eval: tuple[DataSource, ...] = ()
    eval_split: float | None = None
    chat_template_path: str | None = None
    max_length: int | None = None
    long_rows: LongRows | None = None
    packing: bool | None = None
    mixing: Mixing | None = None
    strict: bool | None = None
    template: str | None = None
    default_system: str | None = None
    enable_thinking: bool | None = None
    thinking: Thinking | None = None
