"""The inventory of a host with NVIDIA's driver, 580 or newer: GPUs, or the MIG instances of those that are divided.

One GPU that fails must never hide the others: it stays listed as it was last known, with what is wrong with it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

import pynvml
import structlog

from ftd.devices.nvml.events import Xid, xids
from ftd.devices.nvml.gpu import Gpu, ask, sensors, unknown
from ftd.devices.nvml.health import XIDS, Past, uncorrected_errors
from ftd.devices.nvml.topology import Links, links
from ftd.devices.port import DeviceError, Sensors, Stop
from ftd.devices.watch import in_thread
from ftsched.model import Device

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class NvmlInventory:
    """All GPUs the driver knows. Raises DeviceError if there is no driver, or it does not answer."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        try:
            pynvml.nvmlInit()
            driver = pynvml.nvmlSystemGetDriverVersion()
        except pynvml.NVMLError as error:
            raise DeviceError(f"the NVIDIA driver does not answer: {error}") from error
        self.source = f"nvml: driver {driver}"
        self._clock = clock
        # Reads come from the dispatcher, from requests and from the watch.
        self._lock = threading.Lock()
        self._gpus: dict[str, Gpu] = {}
        self._pasts: defaultdict[str, Past] = defaultdict(Past)
        self._linked: Links = {}

    def read(self) -> tuple[Device, ...]:
        """See Inventory."""
        with self._lock:
            gpus = sorted(self._read(), key=lambda gpu: gpu.index)
        return tuple(device for gpu in gpus for device in gpu.devices)

    def sensors(self) -> Mapping[str, Sensors]:
        """See Inventory."""
        with self._lock:
            return {device.id: sensors(gpu.handle) for gpu in self._read() for device in gpu.devices}

    def watch(self, report: Callable[[Device], None]) -> Stop:
        """See Inventory. An Xid counts from the time somebody watches."""

        def run(ended: threading.Event) -> None:
            for xid in xids(ended):
                for device in self._after(xid):
                    report(device)

        return in_thread(run)

    def release(self, device: str) -> None:
        """See Inventory. Forgives Xids, and the ECC errors counted so far."""
        with self._lock:
            for gpu in self._gpus.values():
                if device in {each.id for each in gpu.devices}:
                    self._pasts[gpu.uuid] = past = Past()
                    try:
                        past.ecc_forgiven = uncorrected_errors(gpu.handle)
                    except pynvml.NVMLError as error:
                        log.warning("released, but it does not answer", device=device, error=str(error))

    def _after(self, xid: Xid) -> list[Device]:
        """What is unfit on the GPU after an Xid: by it, or by what the driver says now."""
        meaning = XIDS.get(xid.number, "")
        log.warning("Xid", gpu=xid.gpu, instance=xid.instance, number=xid.number, meaning=meaning)
        with self._lock:
            if meaning:
                self._pasts[xid.gpu].xids[xid.instance] = xid.number
            try:
                gpus = self._read()
            except DeviceError as error:
                gpus = [self._silent(gpu, str(error)) for gpu in self._gpus.values()]
        return [device for gpu in gpus if gpu.uuid == xid.gpu for device in gpu.devices if device.unfit]

    def _read(self) -> list[Gpu]:
        """Every GPU that was ever seen: as it is, or as it was and why that is all."""
        try:
            count = _twice(pynvml.nvmlDeviceGetCount)
        except pynvml.NVMLError as error:
            raise DeviceError(f"the GPUs cannot be read: {error}") from error
        answered, silent = [], []
        for index in range(count):
            try:
                answered.append(_twice(lambda index=index: self._ask(index)))  # type: ignore[misc]
            except pynvml.NVMLError as error:
                gpu = self._silent(self._known(index), str(error))
                silent.append(gpu.having(lost=isinstance(error, pynvml.NVMLError_GpuIsLost)))
        answered = self._linking(answered)
        listed = {gpu.uuid for gpu in (*answered, *silent)}
        gone = [gpu.having(lost=True) for uuid, gpu in self._gpus.items() if uuid not in listed]
        self._gpus |= {gpu.uuid: gpu for gpu in answered}
        return [*answered, *silent, *(self._silent(gpu, "it is not listed any more") for gpu in gone)]

    def _ask(self, index: int) -> Gpu:
        return ask(index, self._pasts.__getitem__, self._clock())

    def _silent(self, gpu: Gpu, error: str) -> Gpu:
        return gpu.silent(error, self._pasts[gpu.uuid])

    def _known(self, index: int) -> Gpu:
        """The GPU with this number as it last answered."""
        try:
            uuid = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
            return self._gpus.get(uuid) or unknown(index)
        except pynvml.NVMLError:
            # When GPUs vanish the others move up: the last that answered with a number has it.
            had = [gpu for gpu in self._gpus.values() if gpu.index == index]
            return max(had, key=lambda gpu: gpu.answered, default=unknown(index))

    def _linking(self, gpus: list[Gpu]) -> list[Gpu]:
        """The GPUs with how fast they talk to each other, which is asked again only when there are more."""
        whole = {gpu.uuid: gpu.handle for gpu in gpus if gpu.whole}
        if not whole.keys() <= self._linked.keys():
            try:
                self._linked = links(whole)
            except pynvml.NVMLError as error:
                log.warning("how the GPUs are linked cannot be read", error=str(error))
        return [gpu.having(links=self._linked.get(gpu.uuid, {})) for gpu in gpus]


def _twice(call: Callable[[], T]) -> T:
    """A call may fail once; twice is a failure. A GPU that is lost does not come back by asking."""
    try:
        return call()
    except pynvml.NVMLError_GpuIsLost:
        raise
    except pynvml.NVMLError:
        return call()
