"""Xid errors as the driver tells them: a wait that ends the moment one happens, instead of a look every few seconds.

An event carries the GPU's handle; a GPU that has fallen off the bus may not tell its UUID any more, so handles are
remembered from the time they were registered.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml

# The wait itself cannot be interrupted: this is how long an end of the watch takes.
_SLICE_MILLISECONDS = 250
# After the driver has failed, before it is asked again.
_PAUSE_SECONDS = 1.0
_WHOLE_GPU = 0xFFFFFFFF

# UUID of the GPU, MIG instance or None, Xid.
Note = Callable[[str, int | None, int], None]


class XidEvents:
    """The stream of Xids of all GPUs. Belongs to one thread."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._set: Any = None
        self._failed = False
        self._uuids: dict[int | None, str] = {}

    def wait(self, ended: threading.Event) -> None:
        """Returns when an Xid was noted, when the driver fails, or soon after `ended` is set."""
        if self._failed:
            ended.wait(_PAUSE_SECONDS)
        try:
            self._listen()
            while not ended.is_set() and not self._heard():
                pass
            self._failed = False
        except pynvml.NVMLError:
            self._failed = True
            self._close()
        if ended.is_set():
            self._close()

    def _heard(self) -> bool:
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, _SLICE_MILLISECONDS)
        except pynvml.NVMLError_Timeout:
            return False
        instance = None if event.gpuInstanceId == _WHOLE_GPU else int(event.gpuInstanceId)
        uuid = self._uuids.get(_address(event.device)) or pynvml.nvmlDeviceGetUUID(event.device)
        self._note(uuid, instance, int(event.eventData))
        return True

    def _listen(self) -> None:
        """Registers every GPU that tells events and is not registered yet."""
        if self._set is None:
            self._set = pynvml.nvmlEventSetCreate()
        for index in range(pynvml.nvmlDeviceGetCount()):
            # A GPU that tells no events, or does not answer: what that means to it, `read` says.
            with suppress(pynvml.NVMLError):
                gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
                if _address(gpu) not in self._uuids:
                    uuid = pynvml.nvmlDeviceGetUUID(gpu)
                    pynvml.nvmlDeviceRegisterEvents(gpu, pynvml.nvmlEventTypeXidCriticalError, self._set)
                    self._uuids[_address(gpu)] = uuid

    def _close(self) -> None:
        if self._set is not None:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._set)
        self._set = None
        self._uuids.clear()


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
