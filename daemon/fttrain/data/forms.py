"""The five shapes a row is brought into before it is tokenised, whatever it came in. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A turn: role (system, user, assistant, tool), content, on a call tool_calls, what was thought before as
# reasoning_content, and `train` where the row says whether the loss is computed on it.
Message = dict[str, Any]
Tools = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be rendered by the chat template. It ends with the assistant's turn."""

    messages: list[Message]
    tools: Tools | None = None


@dataclass(frozen=True, slots=True)
class Plain:
    """Text as it is: no template. The completion is what an assistant would say; of a text row it is everything."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt. All three are turns, or all three are plain text."""

    prompt: list[Message] | str
    chosen: list[Message] | str
    rejected: list[Message] | str
    tools: Tools | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer to a prompt, and whether it is a good one. Both are turns, or both are plain text."""

    prompt: list[Message] | str
    completion: list[Message] | str
    label: bool
    tools: Tools | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model answers by itself; beside it the answer that is right, empty where there is none."""

    prompt: list[Message] | str
    answer: str
    tools: Tools | None = None


Form = Chat | Plain | Pair | Labelled | Prompt
