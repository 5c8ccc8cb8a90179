"""GPUs as NVIDIA's management library sees them. It makes no CUDA context, so it costs no memory on any of them."""

from ftd.devices.nvml.inventory import NvmlInventory

__all__ = ["NvmlInventory"]
