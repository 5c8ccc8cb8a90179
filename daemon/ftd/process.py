"""Processes that are not ours to wait for: who they are, when they end, and how to end all that belong to an attempt.

A pid alone never names a process: identity is pid, start time and boot, compared once more after a pidfd has pinned it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

# Every process of an attempt inherits this variable, also one that has left its session and lost its parents.
MARK = "FINETUNED_ATTEMPT"
# Fields of /proc/<pid>/stat behind the command's name, which may itself hold spaces and brackets.
_START_TICKS = 19


@dataclass(frozen=True, slots=True)
class Identity:
    """Names one process for ever."""

    pid: int
    start_ticks: int
    boot_id: str


def identify(pid: int) -> Identity | None:
    """Identity of the process that has `pid` now; None if there is none."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Identity(pid, int(content[content.rindex(b")") + 2 :].split()[_START_TICKS]), boot_id())


def boot_id() -> str:
    """Differs after each boot, when pids and start times begin anew."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Process:
    """A process pinned by a pidfd: whatever becomes of its pid, this is the one that was meant. Close it."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    @classmethod
    def pin(cls, identity: Identity) -> Self | None:
        """The process of that identity; None if it has ended."""
        if identify(identity.pid) != identity:
            return None
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        # Only now nobody else can get the pid: look again who it is.
        if identify(identity.pid) != identity:
            os.close(pidfd)
            return None
        return cls(identity.pid, pidfd)

    @classmethod
    def start(
        cls, command: Sequence[str], stdin: bytes, output: IO[bytes], environment: Mapping[str, str], cwd: Path
    ) -> Self:
        """Starts a process in a session of its own, with nothing of the daemon's. Raises OSError."""
        # A file in memory rather than a pipe: it is never half written, whatever becomes of the daemon.
        given = os.memfd_create("stdin")
        try:
            os.pwrite(given, stdin, 0)
            child = subprocess.Popen(  # noqa: S603 - an argument list of our own, no shell
                command, stdin=given, stdout=output, stderr=output, env=environment, cwd=cwd, start_new_session=True
            )
        finally:
            os.close(given)
        identity = identify(child.pid)
        process = cls.pin(identity) if identity else None
        # Its end is taken off the kernel by pidfd, as after a restart of the daemon; Popen need not wait for it.
        child.returncode = 0
        if process is None:
            raise OSError(f"process {child.pid} was taken off the kernel by somebody else")
        return process

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; none if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def ended(self) -> None:
        """Returns when it has ended, its exit status taken off the kernel if it was our child. One caller at a time."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)

    def ends_within(self, seconds: float) -> bool:
        """Blocks for at most so long; whether it has ended."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._pidfd)


def end_marked(mark: str, seconds: float) -> bool:
    """Kills every process that has `mark`; blocks for at most `seconds`. Whether none is left: if not, call again."""
    deadline = time.monotonic() + seconds
    while processes := _marked(mark):
        try:
            for process in processes:
                process.signal(signal.SIGKILL)
            # Its memory is free when it has ended, not when it was killed.
            if not all(process.ends_within(deadline - time.monotonic()) for process in processes):
                return False
        finally:
            for process in processes:
                process.close()
    return True


def _marked(mark: str) -> list[Process]:
    entry = f"{MARK}={mark}".encode()
    found = []
    for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()):
        identity = identify(pid)
        if identity is not None and _has(pid, entry):
            process = Process.pin(identity)
            if process is not None:
                found.append(process)
    return found


def _has(pid: int, entry: bytes) -> bool:
    # Another user's, or gone.
    try:
        return entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
