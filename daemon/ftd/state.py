"""The state directory: one daemon at a time, made when it is missing, and never a new database over old jobs.

Nothing else may be touched before `State.claim` has the lock; it is held until the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class StateRefused(Exception):
    """The state directory cannot be used, in words for the operator."""


@dataclass(frozen=True, slots=True)
class State:
    """A state directory that is ours."""

    path: Path
    lock: int

    @property
    def database(self) -> Path:
        """Jobs and their history."""
        return self.path / "ftd.db"

    @property
    def runs(self) -> Path:
        """Run directories."""
        return self.path / "runs"

    @property
    def datasets(self) -> Path:
        """Data sets that were uploaded."""
        return self.path / "datasets"

    @property
    def looks(self) -> Path:
        """Folders of looks at data, gone when they are over."""
        return self.path / "looks"

    @classmethod
    def claim(cls, path: Path) -> State:
        """Makes the directory and takes its lock. Raises StateRefused."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateRefused(f"{path}: cannot be used as state directory: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StateRefused(
                f"{path}: another daemon has this state directory, process {holder}; stop it, or set another "
                "[daemon] state_directory"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return cls(path, lock)

    def check_runs(self, known: frozenset[str], is_new: bool) -> None:
        """Compares the run directories with the jobs of the database, `known`. Raises StateRefused.

        A directory without an attempt is what a crash left of a submit, and goes. One with attempts stays, whoever it
        belongs to; beside a database that never had a job it means that the right one was lost or moved, and a new one
        would forget jobs that may be running.
        """
        strangers = [run for run in self.runs.glob("*") if run.name not in known]
        started = [run for run in strangers if (run / "attempts").exists()]
        if started and is_new:
            raise StateRefused(
                f"{self.database}: has no jobs, but {len(started)} that were started lie in {self.runs} "
                f"({started[0].name}, …); put the right database back, or move the runs away"
            )
        for run in strangers:
            if run in started:
                log.warning("a run directory belongs to no job", path=str(run))
            else:
                shutil.rmtree(run)
