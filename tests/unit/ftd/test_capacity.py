"""What a user reads when the host has not what a job asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ftd.capacity import device_kind, missing_devices, too_large
from ftd.records import MemoryEstimate, MemoryTerm
from ftd.resolve import resolve
from ftd.spec import Batch, Compute, Data, DataSource, DeviceKind, Full, Model, Qlora, Resources, TrainingSpec
from ftsched.model import Device

GIB = 2**30
GPUS = (
    Device("GPU-a", "host", "gpu", "Small", 0, 16 * GIB, 0),
    Device("GPU-b", "host", "gpu", "Large", 1, 24 * GIB, 20 * GIB),
)
CPU = (Device("cpu", "host", "cpu", "CPU", -1, 8 * GIB, 0),)
SPEC = TrainingSpec(model=Model(path="/m"), data=Data(train=(DataSource("/d/a.csv"),)))


def estimate(training: TrainingSpec) -> MemoryEstimate:
    """Weights of 16 GiB, 4 for qlora; 2 GiB for each 2048 tokens, a quarter of it with recomputation."""
    weights = (4 if isinstance(training.method, Qlora) else 16) * GIB
    micro_batch, tokens = training.batch.micro_batch or 0, training.data.max_length or 0
    activations = micro_batch * tokens * GIB // 1024
    if training.compute.gradient_checkpointing:
        activations //= 4
    whole = training.resources.memory_bytes or weights + activations
    terms = (MemoryTerm("activations", activations), MemoryTerm("weights", weights), MemoryTerm("context", 5))
    return MemoryEstimate(terms, whole, whole, "layer", 0.05, tokens, "a rule for this test")


def large(devices: Sequence[Device] = GPUS, **changes: object) -> list[tuple[str, str]]:
    kind = device_kind(Resources(), devices)
    made = resolve(replace(SPEC, **changes), kind, None)  # type: ignore[arg-type]
    return [(v.field, v.description) for v in too_large(made, estimate(made), devices, estimate)]


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
    assert large() == []


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


def test_the_cheapest_change_that_is_enough_is_told() -> None:
    compute = Compute(gradient_checkpointing=True)
    [(field, text)] = large(batch=Batch(micro_batch=32), compute=compute)
    assert field == "training.resources"
    assert text == (
        "needs about 32.0 GiB on each device (activations 16.0 GiB and weights 16.0 GiB), "
        "but the largest device has 24.0 GiB; it would need 16.5 GiB with batch.micro_batch 1"
    )


def test_changes_add_up_until_it_fits() -> None:
    data = replace(SPEC.data, max_length=32768)
    [(_, text)] = large(batch=Batch(micro_batch=2), compute=Compute(gradient_checkpointing=False), data=data)
    wanted = "batch.micro_batch 1, compute.gradient_checkpointing true"
    assert text.endswith(f"it would need 24.0 GiB with {wanted}")


def test_changes_that_do_not_help_are_not_told() -> None:
    [(_, text)] = large(CPU, method=Full(), data=replace(SPEC.data, max_length=1024))
    made_of = "weights 16.0 GiB and activations 1.0 GiB"
    has = "but the largest device has 8.0 GiB"
    wanted = "it would need 4.2 GiB with compute.gradient_checkpointing true, the method qlora"
    assert text == f"needs about 17.0 GiB on each device ({made_of}), {has}; {wanted}"


def test_a_model_that_is_too_large_whatever_is_changed() -> None:
    tiny = (replace(CPU[0], total_bytes=GIB),)
    [(_, text)] = large(tiny, method=Qlora())
    changes = "compute.gradient_checkpointing true, data.max_length 1024"
    assert text.endswith(f"even with {changes} it would need 4.2 GiB; accepted is a smaller model")
    data, compute = replace(SPEC.data, max_length=8), Compute(gradient_checkpointing=True)
    [(_, text)] = large(tiny, method=Qlora(), data=data, compute=compute)
    assert text.endswith("; accepted is a smaller model")
    assert "even with" not in text
