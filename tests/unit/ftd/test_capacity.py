"""What a user reads when the host has not what a job asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ftd.capacity import device_kind, missing_devices, most_it_may_need, too_large
from ftd.datasets import Data, DataSource
from ftd.records import MemoryEstimate, MemoryTerm
from ftd.resolve import resolve
from ftd.spec import DeviceKind, Model, Resources, TrainingSpec
from ftsched.estimate import Estimate, Term
from ftsched.fixes import Fix, Setting
from ftsched.model import Device

GIB = 2**30
GPUS = (
    Device("GPU-a", "host", "gpu", "Small", 0, 16 * GIB, 0),
    Device("GPU-b", "host", "gpu", "Large", 1, 24 * GIB, 20 * GIB),
)
CPU = (Device("cpu", "host", "cpu", "CPU", -1, 8 * GIB, 0),)
SPEC = TrainingSpec(model=Model(path="/m"), data=Data(train=(DataSource("/d/a.csv"),)))


def needs(size: int) -> Estimate:
    terms = (Term("weights", size // 2), Term("activations", size // 4), Term("context", size // 4))
    return Estimate(terms, size, size, "layer", 0.05, "a rule for this test")


def estimate(training: TrainingSpec) -> MemoryEstimate:
    """32 GiB, unless the spec says otherwise."""
    found = needs(training.resources.memory_bytes or 32 * GIB)
    terms = tuple(MemoryTerm(term.name, term.bytes, term.note) for term in found.terms)
    return MemoryEstimate(terms, found.peak_bytes, found.reserve_bytes, "layer", 0.05, 2048, found.basis)


HALF = Fix(
    "micro-batch 1", (Setting("batch.micro_batch", "1"), Setting("evaluation.micro_batch", "1")), needs(20 * GIB)
)
QLORA = Fix("QLoRA", (Setting("method", "qlora"),), needs(12 * GIB))


def large(
    devices: Sequence[Device] = GPUS, fixes: Sequence[Fix] = (HALF, QLORA), **changes: object
) -> list[tuple[str, str]]:
    kind = device_kind(Resources(), devices)
    made = resolve(replace(SPEC, **changes), kind, None)  # type: ignore[arg-type]
    limit = most_it_may_need(made, estimate(made), devices)
    if limit is None:
        return []
    that_fit = [fix for fix in fixes if fix.estimate.reserve_bytes <= limit]
    violation = too_large(made, estimate(made), limit, that_fit)
    return [(violation.field, violation.description)]


def missing(resources: Resources, devices: Sequence[Device] = GPUS) -> list[tuple[str, str]]:
    kind = device_kind(resources, devices)
    return [(v.field, v.description) for v in missing_devices(resources, kind, devices)]


@pytest.mark.parametrize(
    ("asked", "devices", "expected"),
    [
        (None, GPUS, DeviceKind.GPU),
        (None, CPU, DeviceKind.CPU),
        (DeviceKind.CPU, GPUS, DeviceKind.CPU),
        (DeviceKind.GPU, CPU, DeviceKind.GPU),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(
    asked: DeviceKind | None, devices: Sequence[Device], expected: DeviceKind
) -> None:
    assert device_kind(Resources(device=asked), devices) is expected


def test_what_the_host_has_is_not_missing() -> None:
    assert missing(Resources(gpus=2, gpu_uuids=("GPU-b", "GPU-a"))) == []
    assert missing(Resources(), CPU) == []


def test_more_gpus_than_exist() -> None:
    assert missing(Resources(gpus=3)) == [
        ("training.resources.gpus", "is 3, but this host has 2 GPUs; accepted is 1 to 2")
    ]
    assert missing(Resources(gpus=2), GPUS[:1]) == [
        ("training.resources.gpus", "is 2, but this host has 1 GPU; accepted is 1")
    ]


def test_a_gpu_on_a_host_without_any() -> None:
    text = "is gpu, but this host has no GPU; accepted is cpu"
    assert missing(Resources(device=DeviceKind.GPU, gpus=2), CPU) == [("training.resources.device", text)]


def test_pinned_gpus_that_do_not_exist() -> None:
    text = "names GPU-x, which this host does not have; accepted are GPU-a, GPU-b"
    assert missing(Resources(gpu_uuids=("GPU-x",))) == [("training.resources.gpu_uuids", text)]


def test_memory_in_use_now_does_not_matter() -> None:
    assert large((replace(GPUS[1], total_bytes=40 * GIB),)) == []


def test_memory_that_no_device_has() -> None:
    resources = Resources(memory_bytes=100 * GIB)
    text = "is 100.0 GiB, but the largest device has 24.0 GiB; accepted is up to that, or nothing: it is estimated then"
    assert large(resources=resources) == [("training.resources.memory_bytes", text)]


def test_every_device_of_a_gang_must_be_large_enough() -> None:
    resources = Resources(gpus=2, memory_bytes=20 * GIB)
    [(field, text)] = large(resources=resources)
    assert field == "training.resources.memory_bytes"
    assert text.startswith("is 20.0 GiB, but the smallest of the 2 largest devices has 16.0 GiB;")
    assert large(resources=replace(resources, memory_bytes=16 * GIB)) == []


def test_pinned_devices_must_be_large_enough() -> None:
    resources = Resources(memory_bytes=20 * GIB, gpu_uuids=("GPU-a",))
    [(_, text)] = large(resources=resources)
    assert text.startswith("is 20.0 GiB, but the largest device has 16.0 GiB;")
    assert large(resources=replace(resources, gpu_uuids=("GPU-b",))) == []


def test_what_would_make_it_fit_is_told() -> None:
    [(field, text)] = large()
    assert field == "training.resources"
    assert text == (
        "needs about 32.0 GiB on each device (weights 16.0 GiB and activations 8.0 GiB), "
        "but the largest device has 24.0 GiB; it would need "
        "20.0 GiB with batch.micro_batch 1, evaluation.micro_batch 1, or 12.0 GiB with method qlora"
    )


def test_only_what_fits_the_device_is_told() -> None:
    [(_, text)] = large(GPUS[:1])
    assert text.endswith("has 16.0 GiB; it would need 12.0 GiB with method qlora")


def test_a_model_that_is_too_large_whatever_is_changed() -> None:
    [(_, text)] = large(CPU)
    assert text.endswith("; accepted is a smaller model")
