"""What the daemon says of the data of a spec, as frozen records that mirror the public messages field by field.

Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ftclient.enums import Phase
from ftclient.results import DataReport, Record


@dataclass(frozen=True, slots=True)
class PreviewedRun(Record):
    """Tokens after each other that are all trained on, or none of them."""

    text: str
    trained: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class PreviewedSequence(Record):
    """A sequence of tokens; `name` tells those of a preference row apart."""

    name: str
    runs: tuple[PreviewedRun, ...]
    cut_tokens: int
    input_ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PreviewedRow(Record):
    """One row as it would be trained on, or why it would be left out."""

    source: str
    path: str
    row: int
    sequences: tuple[PreviewedSequence, ...]
    dropped: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataCheck(Record):
    """How far a check of data is; the last one has the report."""

    phase: Phase | None
    fraction: float | None
    report: DataReport | None
    total_steps: int
    tokens: int
