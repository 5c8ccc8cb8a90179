"""Devices that nothing is started on until an admin says so, and why: on disk, since a restart heals no device.

It keeps a list and decides nothing; who puts devices on it is `ftd.caretaker` and whoever asks through the API.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from ftd.database import Database
from ftsched.model import Device

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Quarantine:
    """The list. `load` it once, first."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._reasons: dict[str, str] = {}

    async def load(self) -> None:
        """Reads the list."""
        rows = await self._database.run(lambda connection: connection.execute("SELECT * FROM quarantine").fetchall())
        self._reasons = {row["device"]: row["reason"] for row in rows}

    def __contains__(self, device: object) -> bool:
        return device in self._reasons

    async def begin(self, device: str, reason: str) -> None:
        """Puts a device on the list, or gives it another reason. Raises DiskFull."""
        entry = (device, reason, self._clock())
        await self._database.run(
            lambda connection: connection.execute("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", entry)
        )
        self._reasons[device] = reason
        log.warning("a device is in quarantine", device=device, reason=reason)

    async def end(self, device: str) -> None:
        """Takes a device off the list. Raises DiskFull."""
        await self._database.run(
            lambda connection: connection.execute("DELETE FROM quarantine WHERE device = ?", (device,))
        )
        self._reasons.pop(device, None)
        log.info("a device is out of quarantine", device=device)

    def judge(self, device: Device) -> Device:
        """The device, unfit while it is on the list; what is wrong with it now is said first."""
        reason = self._reasons.get(device.id, "")
        if not reason or reason in device.unfit:
            return device
        return replace(device, unfit="; ".join(filter(None, (device.unfit, f"in quarantine: {reason}"))))
