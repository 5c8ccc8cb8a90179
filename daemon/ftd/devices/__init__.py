"""The devices of this host behind one port: NVIDIA's library, a declared file, or the CPU of a host without GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ftd.devices.cpu import CpuInventory
from ftd.devices.declared import DeclaredInventory
from ftd.devices.nvml import NvmlInventory
from ftd.devices.port import DeviceError, Inventory, Sensors

__all__ = ["DeviceError", "Inventory", "Sensors", "open_inventory"]


def open_inventory(kind: Literal["auto", "nvml", "cpu", "file"], file: Path | None = None) -> Inventory:
    """The inventory the configuration names. Blocks for as long as a driver takes to start.

    With auto a host whose driver does not answer, or has no GPU, is a CPU host, and `source` says why. Raises
    DeviceError if what was asked for by name is not to be had.
    """
    match kind:
        case "cpu":
            return CpuInventory()
        case "auto":
            return _whatever_there_is()
        case "nvml":
            inventory: Inventory = NvmlInventory()
        case "file":
            if file is None:
                raise DeviceError("the inventory is to be read from a file, but no file is named")
            inventory = DeclaredInventory(file)
    # What cannot be read is said at the start, not by the first job.
    inventory.read()
    return inventory


def _whatever_there_is() -> Inventory:
    try:
        nvml = NvmlInventory()
        if nvml.read():
            return nvml
        reason = "the NVIDIA driver reports no GPU"
    except DeviceError as error:
        reason = str(error)
    return CpuInventory(reason)
