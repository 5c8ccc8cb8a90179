"""Whether the host has the devices a training asks for: enough of them, the named ones, and large enough.

What is free just now is the scheduler's question; this one is whether the job could ever start. A training that is too
large is told what would make it small enough. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ftd.errors import Violation
from ftd.records import MemoryEstimate
from ftd.spec import DeviceKind, Resources, TrainingSpec
from ftsched.fit import suits
from ftsched.fixes import Fix
from ftsched.model import Ask, Device, Kind


def device_kind(resources: Resources, devices: Sequence[Device]) -> DeviceKind:
    """What a job runs on: as it asks, else a GPU if the host has one."""
    has_gpu = any(device.kind == "gpu" for device in devices)
    return resources.device or (DeviceKind.GPU if has_gpu else DeviceKind.CPU)


def missing_devices(resources: Resources, kind: DeviceKind, devices: Sequence[Device]) -> Iterator[Violation]:
    """Devices that are asked for and are not on this host."""
    if kind is DeviceKind.CPU:
        return
    gpus = [device.id for device in devices if device.kind == "gpu"]
    if not gpus:
        yield Violation("training.resources.device", "is gpu, but this host has no GPU; accepted is cpu")
        return
    wanted = resources.gpus or 1
    if wanted > len(gpus):
        accepted = f"1 to {len(gpus)}" if len(gpus) > 1 else "1"
        has = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"
        yield Violation("training.resources.gpus", f"is {wanted}, but this host has {has}; accepted is {accepted}")
    unknown = [uuid for uuid in resources.gpu_uuids if uuid not in gpus]
    if unknown:
        text = f"names {', '.join(unknown)}, which this host does not have; accepted are {', '.join(gpus)}"
        yield Violation("training.resources.gpu_uuids", text)


def most_it_may_need(training: TrainingSpec, estimate: MemoryEstimate, devices: Sequence[Device]) -> int | None:
    """Bytes a device that a resolved training must do with, as it needs more than its devices have; None: it fits."""
    resources = training.resources
    kind: Kind = "gpu" if resources.device is DeviceKind.GPU else "cpu"
    ask = Ask(kind, resources.gpus or 1, estimate.reserve_bytes, resources.gpu_uuids)
    if sum(suits(device, ask) for device in devices) >= ask.devices:
        return None
    able = [device for device in devices if suits(device, replace(ask, bytes_per_device=0))]
    return sorted((device.total_bytes for device in able), reverse=True)[ask.devices - 1]


def too_large(training: TrainingSpec, estimate: MemoryEstimate, limit: int, fixes: Sequence[Fix]) -> Violation:
    """That a training needs more than `limit` bytes a device, and which fixes would make it fit."""
    resources = training.resources
    has = f"the largest device has {_gib(limit)}"
    if (resources.gpus or 1) > 1:
        has = f"the smallest of the {resources.gpus} largest devices has {_gib(limit)}"
    needed = _gib(estimate.reserve_bytes)
    if resources.memory_bytes is not None:
        text = f"is {needed}, but {has}; accepted is up to that, or nothing: it is estimated then"
        return Violation("training.resources.memory_bytes", text)
    terms = sorted(estimate.terms, key=lambda term: term.bytes, reverse=True)[:2]
    made_of = " and ".join(f"{term.name} {_gib(term.bytes)}" for term in terms)
    needs = f"needs about {needed} on each device ({made_of}), but {has}"
    return Violation("training.resources", f"{needs}; {_advice(fixes)}")


def _advice(fixes: Sequence[Fix]) -> str:
    """What would be accepted: each fix with what the training would need then."""
    if not fixes:
        return "accepted is a smaller model"
    each = (
        f"{_gib(fix.estimate.reserve_bytes)} with {', '.join(f'{one.field} {one.value}' for one in fix.settings)}"
        for fix in fixes
    )
    return f"it would need {', or '.join(each)}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
