"""A control group for the ranks of an attempt: all they hold of the host's memory together is bounded by the kernel.

Only where systemd runs the daemon in a part of its own of a delegated group (Delegate=, DelegateSubgroup=daemon): a
group that has processes of its own cannot be divided. It must never fail an attempt: without a group there is none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# The part of the service's group that the daemon and the keepers are in.
_SUBGROUP = "daemon"


class Group:
    """A group beside the daemon's. Remove it when nothing is left in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def make(cls, name: str, limit_bytes: int, root: Path = ROOT, own: str = "") -> Group | None:
        """A group that may hold `limit_bytes`; None where this host does not let us. `own` is the path of our group."""
        own = own or _own()
        service = (root / own.lstrip("/")).parent
        path = service / name
        try:
            if Path(own).name != _SUBGROUP or "memory" not in (service / "cgroup.controllers").read_text().split():
                return None
            (service / "cgroup.subtree_control").write_text("+memory")
            path.mkdir(exist_ok=True)
            (path / "memory.max").write_text(str(limit_bytes))
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()
            return None
        # Swapping would only make it slow. A host without swap has no such file.
        with contextlib.suppress(OSError):
            (path / "memory.swap.max").write_text("0")
        return cls(path)

    def enter(self) -> None:
        """Moves this process in; whatever it starts is in it, too. Raises OSError."""
        (self._path / "cgroup.procs").write_text("0")

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process of the group at its bound."""
        try:
            events = dict(line.split() for line in (self._path / "memory.events").read_text().splitlines())
        except (OSError, ValueError):
            return False
        return int(events.get("oom_kill", 0)) > 0

    def remove(self) -> None:
        """Gives the group back."""
        with contextlib.suppress(OSError):
            self._path.rmdir()


def _own() -> str:
    """Our path in the unified hierarchy; empty without one."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
