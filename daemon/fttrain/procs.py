"""What the keeper asks of Linux: who descends from it, when a process started, and that nothing of it outlives it.

Only for a single-threaded process: a parent-death signal fires when the forking *thread* ends. Never judge a process by
its pid alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

from finetuned.trainer.v1 import trainer_pb2

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Fields of /proc/<pid>/stat behind the command's name, which may itself hold spaces and brackets.
_PARENT = 1
_START_TICKS = 19
_libc = ctypes.CDLL(None, use_errno=True)


def boot_id() -> str:
    """Differs after each boot of the host, when pids and start times begin anew."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> trainer_pb2.ProcessIdentity:
    """Identity of a child that was not reaped yet. Raises OSError if there is no such process."""
    return trainer_pb2.ProcessIdentity(pid=pid, start_ticks=int(_stat(pid)[_START_TICKS]))


def adopt_orphans() -> None:
    """Whatever descends from us becomes our child when its parent dies, also what left its session. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """For a child before it executes: it is killed when `parent` dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before we asked.
    if os.getppid() != parent:
        os._exit(1)


def end_descendants() -> dict[int, int]:
    """Kills everything that descends from us and returns when nothing is left: pid -> exit status as by waitpid.

    A process that cannot die keeps us waiting, rightly: what it holds is not free.
    """
    statuses: dict[int, int] = {}
    while True:
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reaped, childless = reap()
        statuses |= reaped
        # Orphans come to us, so to have no child is to have no descendant.
        if childless:
            return statuses
        time.sleep(0.01)


def reap() -> tuple[dict[int, int], bool]:
    """Exit statuses of the children that have ended, and whether no child is left."""
    statuses: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return statuses, True
        if not pid:
            return statuses, False
        statuses[pid] = os.waitstatus_to_exitcode(status)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()):
        # A process that ends meanwhile is no loss: its children come to us and are found the next time.
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(pid)[_PARENT]), []).append(pid)
    found: list[int] = []
    ahead = [root]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def _stat(pid: int) -> list[bytes]:
    content = Path(f"/proc/{pid}/stat").read_bytes()
    return content[content.rindex(b")") + 2 :].split()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
