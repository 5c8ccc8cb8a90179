"""Whether a GPU can be trusted: what the driver says of it now, and what has happened to it since the daemon watches.

A reason is one sentence for people. Errors that a program makes on a sound GPU are no reason: the next one may be fine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml

T = TypeVar("T")

# Xids after which NVIDIA's catalog (docs.nvidia.com/deploy/xid-errors, A100 to GB200) wants the GPU reset, or the host
# started again, before anything else runs. Not here, though in the catalog: what a program causes (13, 31, 43, 45, 69),
# what was contained or corrected (63, 92, 94), 109, which load alone can cause, and those whose weight depends on a
# subcode that events do not carry (144 to 150, 154, 155): for these the driver's recovery action speaks.
XIDS = {
    46: "the GPU stopped processing",
    48: "a double-bit ECC error: memory has lost data",
    62: "the GPU's power management controller has halted",
    64: "a faulty row of memory could not be remapped",
    74: "an NVLink has failed",
    79: "the GPU has fallen off the bus",
    95: "an uncontained memory error: every program on the GPU is affected",
    110: "a security fault",
    119: "the GPU's system processor does not answer",
    120: "the GPU's system processor has failed",
    136: "an NVLink could not be trained",
    140: "an ECC error that could not be recovered",
    143: "the GPU could not be initialised",
    156: "a faulty part was retired and is used until a reset",
    158: "a fatal timeout of the GPU",
}
_RECOVERY = {
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "a reset of the GPU",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "a reboot of the host",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "all traffic between GPUs to end",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "all work on it to end, and a reset",
}


@dataclass(slots=True)
class Past:
    """What a GPU has done, until it is forgiven: its last fatal Xid by MIG instance, None for the whole GPU."""

    xids: dict[int | None, int] = field(default_factory=dict)
    # Uncorrected errors that somebody has looked at and let pass.
    ecc_forgiven: int = 0

    def reasons(self, instance: int | None) -> list[str]:
        """What speaks against an instance, or against the GPU as a whole."""
        concerned = {self.xids[key] for key in (None, instance) if key in self.xids}
        return [f"Xid {xid}: {XIDS[xid]}" for xid in sorted(concerned)]


def reasons(gpu: Any, past: Past) -> list[str]:
    """What the driver says against a GPU now. Raises NVMLError.

    Remapping that is only pending is no reason: by NVIDIA's rules (docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt) new
    work may start until the GPU is reset. Errors of earlier boots are none either: the volatile counter starts anew.
    """
    found = []
    errors = uncorrected_errors(gpu)
    # A reset has set the counter back.
    past.ecc_forgiven = min(past.ecc_forgiven, errors)
    if errors > past.ecc_forgiven:
        found.append(f"{errors - past.ecc_forgiven} uncorrected ECC errors since the last reset")
    remapped = optional(lambda: pynvml.nvmlDeviceGetRemappedRows(gpu))
    if remapped and remapped[3]:
        found.append("a faulty row of memory could not be remapped: the GPU is to be replaced")
    action = optional(lambda: _recovery_action(gpu)) or pynvml.NVML_GPU_RECOVERY_ACTION_NONE
    if action != pynvml.NVML_GPU_RECOVERY_ACTION_NONE:
        found.append(f"the driver wants {_RECOVERY.get(action, f'recovery action {action}')}")
    return found


def uncorrected_errors(gpu: Any) -> int:
    """ECC errors since the driver was loaded or the GPU reset; 0 for a GPU without ECC. Raises NVMLError."""
    kind = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
    return optional(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(gpu, *kind))) or 0


def _recovery_action(gpu: Any) -> int:
    (value,) = pynvml.nvmlDeviceGetFieldValues(gpu, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if value.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


def optional(ask: Callable[[], T]) -> T | None:
    """What not every card or driver tells, and not to everybody. Raises NVMLError for any other failure."""
    try:
        return ask()
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_InvalidArgument,
    ):
        return None
