"""Starting the processes of one attempt, and finding them again: the port `Launcher` and its only implementation.

`ExecLauncher(directories, settings)` starts a keeper that outlives the daemon. A `Handle` follows it by pidfd and answers
once with an `Exit`, whatever happened to the keeper. It must never judge a process by its pid alone, and never answer
while a process of the attempt is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ftd.job import Job
from ftd.records import DataReport, Failure, Outcome


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended; no process of it is left. `report` and `prepared_directory` belong to attempt 0."""

    outcome: Outcome
    failure: Failure | None = None
    checkpoint: str = ""
    peak_memory_bytes: int = 0
    report: DataReport | None = None
    prepared_directory: str = ""


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What the host's configuration says about every attempt. Commands are argument lists; times are seconds."""

    state_directory: Path
    prepare_command: tuple[str, ...]
    rank_command: tuple[str, ...]
    allow_remote_code: bool
    allow_hub: bool
    stop_grace_seconds: float
    kill_grace_seconds: float
    # 0: the libraries' own default.
    threads: int
    daemon_version: str

    @property
    def prepared_root(self) -> Path:
        """The cache of prepared rows."""
        return self.state_directory / "prepared"


class Handle(Protocol):
    """An attempt that has been started."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The keeper and its ranks, as far as they are known yet."""

    async def wait(self) -> Exit:
        """Answers when no process of the attempt is left. May be called again. Never raises for a dead keeper."""

    async def stop(self, *, save: bool) -> None:
        """Asks the attempt to end at its next step; the keeper escalates. May be repeated; too late is no error."""


class Launcher(Protocol):
    """Starts attempts. Attempt 0 is the preparation; its `devices` are ("cpu",) and its memory cap is 0."""

    async def start(self, job: Job, attempt: int, devices: Sequence[str], memory_cap_bytes: int) -> Handle:
        """Starts the attempt. Raises DiskFull, or OSError when no process can be started; nothing is left then."""

    async def reattach(self, job: Job, attempt: int) -> Handle | Exit | None:
        """After a restart of the daemon: the running attempt, how it ended, or None if it never got going."""
