"""A thread for whoever waits for things to happen to devices, with a way to end it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ftd.devices.port import Stop


def in_thread(run: Callable[[threading.Event], None]) -> Stop:
    """Runs it, and ends it: `run` returns soon after its event is set. A daemon that dies does not wait for it."""
    ended = threading.Event()
    thread = threading.Thread(target=run, args=(ended,), name="device-watch", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()

    return stop
