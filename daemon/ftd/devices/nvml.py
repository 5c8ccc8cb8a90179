"""GPUs as NVIDIA's management library sees them. It makes no CUDA context, so it costs no memory on any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from ftd.devices.port import DeviceError, host_name, process_name
from ftsched.model import Device, Foreign

T = TypeVar("T")


class NvmlInventory:
    """All GPUs the driver knows. Raises DeviceError if there is no driver, or it does not answer."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
            driver = pynvml.nvmlSystemGetDriverVersion()
        except pynvml.NVMLError as error:
            raise DeviceError(f"the NVIDIA driver does not answer: {error}") from error
        self.source = f"nvml: driver {driver}"

    def read(self) -> tuple[Device, ...]:
        """See Inventory."""
        try:
            return tuple(_device(index) for index in range(pynvml.nvmlDeviceGetCount()))
        except pynvml.NVMLError as error:
            raise DeviceError(f"the GPUs cannot be read: {error}") from error


def _device(index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    # The second version counts what the driver keeps for itself apart from what processes use.
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return Device(
        id=pynvml.nvmlDeviceGetUUID(handle),
        host=host_name(),
        kind="gpu",
        name=pynvml.nvmlDeviceGetName(handle),
        index=index,
        total_bytes=memory.total - memory.reserved,
        used_bytes=memory.used,
        foreign=_processes(handle),
        utilization_percent=_optional(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        temperature_celsius=_optional(
            lambda: int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        ),
    )


def _processes(handle: Any) -> tuple[Foreign, ...]:
    """Everybody with memory on the GPU; one that computes and draws is listed once."""
    found = {
        each.pid: each.usedGpuMemory or 0
        for list_of in (pynvml.nvmlDeviceGetGraphicsRunningProcesses, pynvml.nvmlDeviceGetComputeRunningProcesses)
        for each in _optional(lambda list_of=list_of: list_of(handle)) or ()  # type: ignore[misc]
    }
    return tuple(Foreign(pid, process_name(pid), used) for pid, used in sorted(found.items()))


def _optional(ask: Callable[[], T]) -> T | None:
    """What not every card tells, and not to everybody."""
    try:
        return ask()
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
        return None
