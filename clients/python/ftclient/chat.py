"""What a chat answers, as frozen records that mirror the public messages field by field.

Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftclient.enums import FinishReason
from ftclient.results import Record


@dataclass(frozen=True, slots=True)
class GenerateEnd(Record):
    """Why an answer ended, and the tokens it took."""

    reason: FinishReason
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Generated(Record):
    """Some words of an answer, or its end."""

    text: str | None
    end: GenerateEnd | None
