"""What one GPU says of itself: the devices it offers to jobs, itself or its MIG instances, and its sensors.

What the driver keeps of a GPU's memory for itself is not part of the total, since nobody can ever have it. Whatever the
driver refuses is raised as NVMLError, but for what not every card tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pynvml

from ftd.devices.nvml.health import Past, optional, reasons
from ftd.devices.port import Sensors, host_name, process_name
from ftsched.model import Device, Foreign


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as it answered at a time. `devices` are what jobs can be placed on: itself, or its MIG instances."""

    uuid: str
    index: int
    handle: Any
    devices: tuple[Device, ...]
    answered: float

    @property
    def whole(self) -> bool:
        """Whether it is not divided."""
        return [device.id for device in self.devices] == [self.uuid]

    def having(self, **fields: Any) -> Gpu:
        """The same GPU with other fields in each of its devices."""
        return replace(self, devices=tuple(replace(device, **fields) for device in self.devices))

    def silent(self, error: str, past: Past) -> Gpu:
        """The same GPU when it does not answer: as it was, and unfit. The text does not change while that lasts."""
        reason = f"the driver does not answer for it: {error}"
        if self.answered:
            reason += f"; last at {datetime.fromtimestamp(self.answered, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return self.having(unfit="; ".join([*past.reasons(None), reason]))


def ask(index: int, pasts: Callable[[str], Past], now: float) -> Gpu:
    """The GPU with this number; `pasts` has what each has done, by UUID."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    past = pasts(uuid)
    wrong = reasons(handle, past)
    parts: list[tuple[Any, int | None]] = [(handle, None)]
    divided = optional(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    if divided and divided[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
        instances = [(each, int(pynvml.nvmlDeviceGetGpuInstanceId(each))) for each in _instances(handle)]
        if instances:
            parts = [*instances]
        else:
            wrong.append("it is to be divided by MIG, and has no instance")
    devices = tuple(_device(part, index, [*past.reasons(number), *wrong]) for part, number in parts)
    return Gpu(uuid, index, handle, devices, now)


def unknown(index: int) -> Gpu:
    """A GPU that has never answered: the driver counts it, and that is all."""
    device = Device(f"gpu-{index}", host_name(), "gpu", "unknown GPU", index, total_bytes=0, used_bytes=0)
    return Gpu(device.id, index, None, (device,), answered=0.0)


def _instances(gpu: Any) -> Iterator[Any]:
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except pynvml.NVMLError_NotFound:
            continue


def _device(part: Any, index: int, wrong: list[str]) -> Device:
    # The second version counts what the driver keeps for itself apart from what processes use.
    memory = pynvml.nvmlDeviceGetMemoryInfo(part, version=pynvml.nvmlMemory_v2)
    return Device(
        id=pynvml.nvmlDeviceGetUUID(part),
        host=host_name(),
        kind="gpu",
        name=pynvml.nvmlDeviceGetName(part),
        index=index,
        total_bytes=memory.total - memory.reserved,
        used_bytes=memory.used,
        foreign=_processes(part),
        unfit="; ".join(wrong),
    )


def _processes(part: Any) -> tuple[Foreign, ...]:
    """Everybody with memory on it; one that computes and draws is listed once."""
    lists = (
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses,
        pynvml.nvmlDeviceGetComputeRunningProcesses,
    )
    found = {
        each.pid: each.usedGpuMemory or 0
        for list_of in lists
        for each in optional(lambda list_of=list_of: list_of(part)) or ()  # type: ignore[misc]
    }
    return tuple(Foreign(pid, process_name(pid), used) for pid, used in sorted(found.items()))


def sensors(gpu: Any) -> Sensors:
    """What people look at; all None for a GPU that does not answer or, without a handle, never did."""
    if gpu is None:
        return Sensors()
    milliwatts = _shown(lambda: pynvml.nvmlDeviceGetPowerUsage(gpu))
    return Sensors(
        utilization_percent=_shown(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)),
        temperature_celsius=_shown(lambda: int(pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU))),
        power_watts=None if milliwatts is None else round(milliwatts / 1000),
    )


def _shown(ask: Callable[[], int]) -> int | None:
    """For people only: whatever is wrong, `read` says it."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None
