"""Trained weights that a training takes, and where they come from: frozen dataclasses that mirror the messages.

What each field accepts stands in proto/finetuned/v1/weights.proto. Nothing here checks anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weights:
    """A folder, or the output of a job."""

    path: str | None = None
    from_job: str | None = None
    base_path: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """A checkpoint that a new job goes on from."""

    path: str | None = None
    from_job: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Ancestor:
    """Weights or a checkpoint that a job takes."""

    field: str
    job: str = ""
    step: int = 0
    path: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the weights of a job come from."""

    base_model: str = ""
    base_revision: str = ""
    base_digest: str = ""
    ancestors: tuple[Ancestor, ...] = ()
    data_digest: str = ""
