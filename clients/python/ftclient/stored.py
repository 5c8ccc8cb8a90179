"""What the daemon keeps for its clients: data sets that were uploaded, and what jobs left. Frozen records.

They mirror the public messages as those of `ftclient.results` do, with the same types. Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ftclient.enums import ArtifactKind
from ftclient.results import Record


@dataclass(frozen=True, slots=True)
class Dataset(Record):
    """A file of rows on the daemon's host, and how many jobs that have not ended use it."""

    name: str
    sha256: str
    bytes: int
    file: str
    create_time: datetime
    jobs: int


@dataclass(frozen=True, slots=True)
class ArtifactFile(Record):
    """A file of an artifact; `path` is relative to it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact(Record):
    """What a job left: its output or a checkpoint."""

    kind: ArtifactKind | None
    name: str
    path: str
    step: int
    files: tuple[ArtifactFile, ...]
    bytes: int
