"""How much of a host a project has had: decayed service, the arithmetic of fair share.

Service is device-seconds; a job that shares a device counts with the part of its memory. A project's usage halves every
half-life, so that the past is forgiven and a burst of yesterday weighs more than one of last month. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from ftsched.model import Ask, Device


class Widths:
    """How many devices' worth a job holds: a part of one where devices are shared, by its memory."""

    def __init__(self, devices: tuple[Device, ...]) -> None:
        self._largest: dict[str, int] = {}
        for device in devices:
            if device.max_jobs != 1:
                self._largest[device.kind] = max(self._largest.get(device.kind, 0), device.total_bytes)

    def of(self, ask: Ask) -> float:
        """Devices, e.g. 0.25 for 20 GiB of a shared 80 GiB card; never 0."""
        largest = self._largest.get(ask.kind, 0)
        if ask.exclusive or ask.bytes_per_device >= largest:
            return float(ask.devices)
        return ask.devices * max(ask.bytes_per_device / largest, 1e-3)


def decayed(usage: Mapping[str, float], seconds: float, half_life: float) -> dict[str, float]:
    """The usage of each project `seconds` later; a clock that jumped back changes nothing."""
    factor = 0.5 ** (max(0.0, seconds) / half_life)
    return {project: service * factor for project, service in usage.items()}
