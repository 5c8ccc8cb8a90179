"""The devices: on a terminal a bar of each one's memory and who is on it, in a pipe two tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftctl import output
from ftctl.text import NOTHING, size

if TYPE_CHECKING:
    from rich.text import Text

    from ftclient.host import Device, DeviceUse, Host

WIDEST_BAR = 100
# Of each part of the memory: a glyph, so that it needs no colour, and a colour.
PARTS = (("ours", "█", "cyan"), ("promised", "▒", "blue"), ("not ours", "▓", "yellow"), ("free", "·", "dim"))


@dataclass(frozen=True, slots=True)
class Memory:
    """Who has a device's memory, in bytes. Promised is what jobs on it may still grow to."""

    ours: int
    promised: int
    others: int
    free: int


def memory_of(device: Device) -> Memory:
    """What nobody told of is somebody else's: the driver's, or that of processes it does not name."""
    jobs = [use for use in device.uses if use.job]
    ours = sum(use.used_bytes for use in jobs)
    promised = sum(max(0, use.reserved_bytes - use.used_bytes) for use in jobs)
    others = max(device.used_bytes - ours, sum(use.used_bytes for use in device.uses if not use.job))
    return Memory(ours, promised, others, max(0, device.total_bytes - ours - promised - others))


def label(device: Device) -> str:
    """The name to call it by, as the daemon takes it."""
    return "CPU" if device.kind == "cpu" else f"GPU {device.index}"


def devices(host: Host) -> None:
    """All devices of the host, or why there is none."""
    if not host.devices:
        output.line(f"the host offers no device; inventory: {host.inventory}")
    elif output.console().is_terminal:
        for index, device in enumerate(host.devices):
            if index:
                output.line()
            _draw(device)
    else:
        _tables(host)


def _tables(host: Host) -> None:
    headers = ["DEVICE", "NAME", "OURS", "PROMISED", "NOT OURS", "FREE", "TOTAL", "BUSY", "TEMP", "POWER", "STATE"]
    rows = []
    for device in host.devices:
        memory = memory_of(device)
        parts = (memory.ours, memory.promised, memory.others, memory.free, device.total_bytes)
        gauges = [gauge or NOTHING for gauge in gauges_of(device)]
        rows.append([label(device), device.name, *map(size, parts), *gauges, device.unfit or "fit"])
    output.table(headers, rows, right=range(2, 10))
    uses = [[label(device), *_use(use)] for device in host.devices for use in device.uses]
    if uses:
        output.line()
        output.table(["DEVICE", "JOB", "PID", "PROCESS", "USED", "RESERVED"], uses, right=(2, 4, 5))


def gauges_of(device: Device) -> list[str]:
    """How busy and how warm it is, and what it draws; empty where nobody measures."""
    busy, heat, power = device.utilization_percent, device.temperature_celsius, device.power_watts
    return [
        "" if busy is None else f"{busy}%",
        "" if heat is None else f"{heat}°C",
        "" if power is None else f"{power} W",
    ]


def _use(use: DeviceUse) -> list[str]:
    return [
        use.job or "(not ours)",
        str(use.pid or NOTHING),
        use.process_name or NOTHING,
        size(use.used_bytes),
        size(use.reserved_bytes) if use.reserved_bytes else NOTHING,
    ]


def _draw(device: Device) -> None:
    from rich.text import Text

    width = min(output.console().width, WIDEST_BAR)
    right = "  ".join(gauge for gauge in (size(device.total_bytes), *gauges_of(device)) if gauge)
    name = Text.assemble((label(device), "bold"), f"  {device.name}")
    if device.max_jobs:
        name.append(f"  {device.max_jobs} job{'s' if device.max_jobs > 1 else ''} at a time", style="dim")
    name.truncate(width - len(right) - 2, overflow="ellipsis", pad=True)
    output.console().print(name.append(f"  {right}", style="dim"), no_wrap=True)
    if device.unfit:
        output.console().print(Text(f"not used: {device.unfit}", style="bold red"))
    if device.quarantined:
        output.console().print(Text(f"`ftctl release-gpu {device.index}` ends the quarantine", style="dim"))
    memory = memory_of(device)
    counts = (memory.ours, memory.promised, memory.others, memory.free)
    output.console().print(bar(counts, width))
    output.console().print(_legend(counts))
    for use in device.uses:
        output.console().print(_user(use))


def bar(counts: tuple[int, ...], width: int) -> Text:
    """What is there at all has at least one cell; the last part, the free one, takes the rest."""
    from rich.text import Text

    bar, total = Text(no_wrap=True), sum(counts) or 1
    for (_, glyph, style), count in zip(PARTS[:-1], counts, strict=False):
        cells = max(1, round(width * count / total)) if count else 0
        bar.append(glyph * min(cells, width - len(bar)), style=style)
    return bar.append(PARTS[-1][1] * (width - len(bar)), style=PARTS[-1][2])


def _legend(counts: tuple[int, ...]) -> Text:
    from rich.text import Text

    parts = [
        Text.assemble((f"{glyph} ", style), f"{size(count)} {name}")
        for (name, glyph, style), count in zip(PARTS, counts, strict=True)
        if count
    ]
    return Text("  ").join(parts)


def _user(use: DeviceUse) -> Text:
    from rich.text import Text

    if not use.job:
        who = f"pid {use.pid} ({use.process_name})" if use.process_name else f"pid {use.pid}"
        return Text.assemble("  ", (who, "yellow"), f"  {size(use.used_bytes)}, not ours")
    return Text.assemble("  ", (use.job, "cyan"), f"  {size(use.used_bytes)} of {size(use.reserved_bytes)} reserved")
