"""What is done with a model that trains nothing: frozen dataclasses that mirror inference.proto.

What each does stands in proto/finetuned/v1/inference.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Figures of a model on evaluation rows."""


@dataclass(frozen=True, slots=True)
class Export:
    """A model in other files."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Answers to whoever asks."""

    idle_seconds: float | None = None


Inference = Evaluate | Export | Chat
