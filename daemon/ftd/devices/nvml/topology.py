"""How fast the GPUs of a host talk to each other, as small integers: higher is faster, absent is slowest.

NVLink before a common PCIe switch before a common NUMA node; among NVLinks the number of them counts. Bandwidth is not
measured: an order is all that a placement needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pynvml

from ftd.devices.nvml.health import optional

SAME_NODE = 1
SAME_SWITCH = 2
# Plus the number of links.
NVLINK = 10
_FABRIC = "nvswitch"

Links = dict[str, dict[str, int]]


def links(gpus: Mapping[str, Any]) -> Links:
    """The speed between each two GPUs, handles by id, both ways. Raises NVMLError."""
    found: Links = {gpu: {} for gpu in gpus}
    buses = {_bus(handle): gpu for gpu, handle in gpus.items()}
    nvlinks = {gpu: _nvlinks(handle, buses) for gpu, handle in gpus.items()}
    for a, b in combinations(gpus, 2):
        through_switch = min(nvlinks[a][_FABRIC], nvlinks[b][_FABRIC])
        count = max(nvlinks[a][b], nvlinks[b][a], through_switch)
        speed = NVLINK + count if count else _by_pcie(gpus[a], gpus[b])
        if speed:
            found[a][b] = found[b][a] = speed
    return found


def _by_pcie(a: Any, b: Any) -> int:
    level = optional(lambda: pynvml.nvmlDeviceGetTopologyCommonAncestor(a, b))
    if level is None or level >= pynvml.NVML_TOPOLOGY_SYSTEM:
        return 0
    return SAME_SWITCH if level <= pynvml.NVML_TOPOLOGY_MULTIPLE else SAME_NODE


def _nvlinks(gpu: Any, buses: Mapping[tuple[int, int, int], str]) -> Counter[str]:
    """Active NVLinks of a GPU by the GPU at the other end, or the fabric of switches that reaches all."""
    found: Counter[str] = Counter()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        active = optional(lambda link=link: pynvml.nvmlDeviceGetNvLinkState(gpu, link))  # type: ignore[misc]
        if active is None:
            break
        if active:
            found[_other_end(gpu, link, buses)] += 1
    return found


def _other_end(gpu: Any, link: int, buses: Mapping[tuple[int, int, int], str]) -> str:
    kind = optional(lambda: pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(gpu, link))
    if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
        return _FABRIC
    remote = optional(lambda: pynvml.nvmlDeviceGetNvLinkRemotePciInfo(gpu, link))
    return buses.get((remote.domain, remote.bus, remote.device), "") if remote else ""


def _bus(gpu: Any) -> tuple[int, int, int]:
    pci = pynvml.nvmlDeviceGetPciInfo(gpu)
    return pci.domain, pci.bus, pci.device
