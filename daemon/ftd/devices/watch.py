"""A watch over devices: a thread that sleeps until something happens and then says which devices have become unfit.

What it sleeps on is the inventory's matter. It must never poll the devices, and never end because they cannot be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ftd.devices.port import DeviceError, Stop
from ftsched.model import Device

# Returns when something may have happened to a device, or soon after the event is set.
Wait = Callable[[threading.Event], None]


def watch(read: Callable[[], tuple[Device, ...]], wait: Wait, report: Callable[[Device], None]) -> Stop:
    """Reports what is unfit now, then what becomes so; what became fit in between is reported anew."""
    ended = threading.Event()

    def run() -> None:
        known: set[str] = set()
        while not ended.is_set():
            unfit = _unfit(read)
            if unfit is not None:
                for device in unfit:
                    if device.id not in known:
                        report(device)
                known = {device.id for device in unfit}
            wait(ended)

    thread = threading.Thread(target=run, name="device-watch", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop


def _unfit(read: Callable[[], tuple[Device, ...]]) -> list[Device] | None:
    """None if the devices cannot be read: whoever needs them meets that, and says so."""
    try:
        return [device for device in read() if device.unfit]
    except DeviceError:
        return None
