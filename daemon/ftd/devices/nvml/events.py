"""Xid errors as the driver tells them: a wait that ends the moment one happens, instead of a look every few seconds.

An event carries the GPU's handle; a GPU that has fallen off the bus may not tell its UUID any more, so handles are
remembered from the time they were registered.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml

# The wait itself cannot be interrupted: this is how long an end of the watch takes.
_SLICE_MILLISECONDS = 250
# After the driver has failed, before it is asked again.
_PAUSE_SECONDS = 1.0
_WHOLE_GPU = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Xid:
    """An error on a GPU, or on one of its MIG instances."""

    gpu: str
    instance: int | None
    number: int


def xids(ended: threading.Event) -> Iterator[Xid]:
    """Each Xid as it happens, until soon after `ended` is set. Outlives a driver that fails."""
    while not ended.is_set():
        try:
            yield from _until_failure(ended)
        except pynvml.NVMLError:
            ended.wait(_PAUSE_SECONDS)


def _until_failure(ended: threading.Event) -> Iterator[Xid]:
    events = pynvml.nvmlEventSetCreate()
    gpus: dict[int | None, str] = {}
    try:
        while not ended.is_set():
            _register(events, gpus)
            try:
                event = pynvml.nvmlEventSetWait_v2(events, _SLICE_MILLISECONDS)
            except pynvml.NVMLError_Timeout:
                continue
            gpu = gpus.get(_address(event.device)) or pynvml.nvmlDeviceGetUUID(event.device)
            instance = None if event.gpuInstanceId == _WHOLE_GPU else int(event.gpuInstanceId)
            yield Xid(gpu, instance, int(event.eventData))
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlEventSetFree(events)


def _register(events: Any, gpus: dict[int | None, str]) -> None:
    """Listens to every GPU that is not listened to yet. One that did not answer may do so the next time."""
    count = pynvml.nvmlDeviceGetCount()
    if len(gpus) == count:
        return
    for index in range(count):
        with suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if _address(handle) not in gpus:
                gpu = pynvml.nvmlDeviceGetUUID(handle)
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
                gpus[_address(handle)] = gpu


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
