"""The port `Inventory`: what the daemon needs to know of a host's devices, whoever tells it. Decides nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ftsched.model import Device

# Ends a watch; returns when its thread has ended.
Stop = Callable[[], None]


class DeviceError(Exception):
    """The devices cannot be read; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """What a device shows to people; no decision rests on it. None where it does not tell."""

    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: int | None = None


class Inventory(Protocol):
    """Reads the devices of one host. All of it may be called from any thread; what blocks says so."""

    @property
    def source(self) -> str:
        """Where the devices are read from, for people."""

    def read(self) -> tuple[Device, ...]:
        """The devices as they are now. Blocks. Raises DeviceError.

        Every process on a device is listed as foreign. A device that was read once stays listed: one that is gone or
        does not answer is as it was last known, and `unfit` says what is wrong, until it answers again.
        """

    def sensors(self) -> Mapping[str, Sensors]:
        """The sensors by id of the device; a MIG instance has those of its GPU. Blocks. Raises DeviceError."""

    def watch(self, report: Callable[[Device], None]) -> Stop:
        """Reports each device to which something happens that makes it unfit, at once and from a thread of its own.

        Tell the same device again, and whoever quarantines it does no more than before. What is unfit without an event,
        since it does not answer, is only read.
        """

    def release(self, device: str) -> None:
        """Forgives a device what it has done; what is wrong with it now, or happens again, makes it unfit as before."""


def host_name() -> str:
    """Name of this host in the scheduler's eyes."""
    return socket.gethostname()


def process_name(pid: int) -> str:
    """What a process calls itself; "?" if it has gone or hides."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() or "?"
    except OSError:
        return "?"
