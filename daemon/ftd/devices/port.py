"""The port `Inventory`: what the daemon needs to know of a host's devices, whoever tells it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

from ftsched.model import Device


class DeviceError(Exception):
    """The devices cannot be read; the message says what was tried."""


class Inventory(Protocol):
    """Reads the devices of one host. Blocks: call it in a thread. One call at a time is enough, several do no harm."""

    @property
    def source(self) -> str:
        """Where the devices are read from, for people."""

    def read(self) -> tuple[Device, ...]:
        """The devices as they are now; every process on them is listed as foreign. Raises DeviceError."""


def host_name() -> str:
    """Name of this host in the scheduler's eyes."""
    return socket.gethostname()


def process_name(pid: int) -> str:
    """What a process calls itself; "?" if it has gone or hides."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() or "?"
    except OSError:
        return "?"
