"""The CPU of a host as one device, with the host's memory: what a host without GPUs trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ftd.devices.port import DeviceError, Sensors, Stop, host_name
from ftsched.model import Device

CPU = "cpu"
_MEMINFO = Path("/proc/meminfo")


class CpuInventory:
    """One device, "cpu". Its processes are not listed: a host has hundreds, and what they use is in `used_bytes`."""

    def __init__(self, reason: str = "", meminfo: Path = _MEMINFO) -> None:
        self._meminfo = meminfo
        self.source = f"cpu: {reason}" if reason else "cpu"

    def read(self) -> tuple[Device, ...]:
        """See Inventory."""
        sizes = self._sizes()
        total = sizes["MemTotal"]
        device = Device(
            id=CPU,
            host=host_name(),
            kind="cpu",
            name="CPU",
            index=-1,
            total_bytes=total,
            # What the kernel could give to a new process without swapping is free, page cache included.
            used_bytes=total - sizes["MemAvailable"],
        )
        return (device,)

    def sensors(self) -> Mapping[str, Sensors]:
        """See Inventory. A CPU has none that matter here."""
        return {CPU: Sensors()}

    def watch(self, report: Callable[[Device], None]) -> Stop:
        """See Inventory. The CPU is always fit: a host that loses it loses the daemon too."""
        return lambda: None

    def release(self, device: str) -> None:
        """See Inventory."""

    def _sizes(self) -> dict[str, int]:
        """The two lines that matter, in bytes."""
        try:
            lines = [line.split() for line in self._meminfo.read_text(encoding="ascii").splitlines()]
            sizes = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) > 1}
            return {key: sizes[key] for key in ("MemTotal", "MemAvailable")}
        except (OSError, ValueError, KeyError) as error:
            raise DeviceError(f"the host's memory cannot be read from {self._meminfo}: {error}") from error
