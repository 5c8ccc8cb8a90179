"""Trained weights that a training takes: a frozen dataclass that mirrors the Weights message field by field.

What it accepts stands in proto/finetuned/v1/weights.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weights:
    """A folder, or the output of a job."""

    path: str | None = None
    from_job: str | None = None
