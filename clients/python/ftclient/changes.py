"""What the daemon tells those who follow its jobs, as frozen records that mirror the public messages field by field.

Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ftclient.results import Job, Record, Transition


@dataclass(frozen=True, slots=True)
class Waited(Record):
    """A job when a wait was over; `reached` says whether what was waited for is there."""

    job: Job
    reached: bool


@dataclass(frozen=True, slots=True)
class JobChange(Record):
    """One move of a job, as it was after it; without `transition` it was deleted, at `delete_time`.

    `cursor` is where to go on after it; `attempts` are the starts of its training so far.
    """

    cursor: str
    job: str
    name: str
    project: str
    labels: Mapping[str, str]
    external_id: str
    revision: int
    attempts: int
    transition: Transition | None
    delete_time: datetime | None
