"""What every inventory of devices does, and what each one says when it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ftd.devices import DeviceError, Inventory, open_inventory
from ftd.devices.cpu import CpuInventory
from ftd.devices.declared import DeclaredInventory
from ftd.devices.nvml import NvmlInventory

GIB = 2**30
TWO_GPUS = f"""
[[gpu]]
uuid = "GPU-a"
name = "H100"
total_bytes = {80 * GIB}
[[gpu.process]]
pid = 4711
name = "python"
used_bytes = {9 * GIB}

[[gpu]]
uuid = "GPU-b"
total_bytes = {24 * GIB}
used_bytes = {2 * GIB}
"""


def declared(tmp_path: Path, text: str = TWO_GPUS) -> DeclaredInventory:
    file = tmp_path / "gpus.toml"
    file.write_text(text, encoding="utf-8")
    return DeclaredInventory(file)


def nvml(_: Path) -> Inventory:
    try:
        inventory = NvmlInventory()
    except DeviceError as error:
        pytest.skip(str(error))
    return inventory


def this_cpu(_: Path) -> Inventory:
    return CpuInventory()


@pytest.fixture(params=[declared, this_cpu, nvml], ids=["file", "cpu", "nvml"])
def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> Inventory:
    make: Callable[[Path], Inventory] = request.param
    return make(tmp_path)


def test_devices_have_what_the_scheduler_needs(inventory: Inventory) -> None:
    devices = inventory.read()
    assert devices
    assert len({device.id for device in devices}) == len(devices)
    for device in devices:
        assert device.id
        assert device.host
        assert device.name
        assert device.kind in ("gpu", "cpu")
        assert 0 <= device.used_bytes <= device.total_bytes
        assert all(process.pid > 0 and process.name and process.bytes >= 0 for process in device.foreign)


def test_a_second_read_sees_the_same_devices(inventory: Inventory) -> None:
    def identity() -> list[tuple[str, str, int, int]]:
        return [(d.id, d.name, d.index, d.total_bytes) for d in inventory.read()]

    assert identity() == identity()


def test_no_inventory_makes_policy(inventory: Inventory) -> None:
    assert {device.max_jobs for device in inventory.read()} == {None}


def test_the_source_says_where_it_comes_from(inventory: Inventory) -> None:
    assert re.match(r"(file|cpu|nvml)\b", inventory.source)


def test_the_cpu_counts_what_the_kernel_could_not_give(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\n", encoding="ascii")
    (device,) = CpuInventory(meminfo=meminfo).read()
    assert (device.id, device.kind, device.index) == ("cpu", "cpu", -1)
    assert (device.total_bytes, device.used_bytes) == (1000 * 1024, 400 * 1024)
    assert device.foreign == ()


@pytest.mark.parametrize("text", ["", "MemTotal: many kB\nMemAvailable: 1 kB\n", "MemTotal: 5 kB\n"])
def test_a_host_that_does_not_tell_its_memory_is_an_error(tmp_path: Path, text: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(text, encoding="ascii")
    with pytest.raises(DeviceError, match="the host's memory cannot be read from"):
        CpuInventory(meminfo=meminfo).read()


def test_a_declared_gpu_uses_what_its_processes_use_unless_it_says(tmp_path: Path) -> None:
    first, second = declared(tmp_path).read()
    assert (first.id, first.index, first.used_bytes) == ("GPU-a", 0, 9 * GIB)
    assert [(p.pid, p.name, p.bytes) for p in first.foreign] == [(4711, "python", 9 * GIB)]
    assert (second.id, second.index, second.used_bytes, second.foreign) == ("GPU-b", 1, 2 * GIB, ())


def test_a_declared_file_is_read_again_each_time(tmp_path: Path) -> None:
    inventory = declared(tmp_path)
    assert len(inventory.read()) == 2
    (tmp_path / "gpus.toml").write_text('[[gpu]]\nuuid = "GPU-c"\ntotal_bytes = 1024\n', encoding="utf-8")
    assert [device.id for device in inventory.read()] == ["GPU-c"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[gpu]]\nuuid = "a"\ntotal_bytes = 5\nmemory = 3\n', r"gpu\.0\.memory: Extra inputs are not permitted"),
        ('[[gpu]]\nuuid = "a"\ntotal_bytes = -5\n', r"gpu\.0\.total_bytes: Input should be greater than or equal to 1"),
        ('[[gpu]]\nuuid = "a"\ntotal_bytes = "5"\n', r"gpu\.0\.total_bytes: Input should be a valid integer"),
        ('[[gpu]]\nuuid = "a"\ntotal_bytes = 5\nused_bytes = 6\n', "6 bytes are used of 5"),
        ('[[gpu]]\nuuid = "a"\n', r"gpu\.0\.total_bytes: Field required"),
        (2 * '[[gpu]]\nuuid = "a"\ntotal_bytes = 5\n', "the uuid a stands there more than once"),
        ("", "gpu: Field required"),
        ("gpu = [", "not valid TOML"),
    ],
    ids=["unknown key", "negative", "text", "over-used", "no size", "same uuid twice", "empty", "no TOML"],
)
def test_a_wrong_file_is_refused_by_name_and_field(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DeviceError, match=problem) as refused:
        declared(tmp_path, text).read()
    assert "gpus.toml" in str(refused.value)


def test_a_missing_file_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"gpus\.toml: cannot be read: No such file"):
        open_inventory("file", tmp_path / "gpus.toml")
    with pytest.raises(DeviceError, match="no file is named"):
        open_inventory("file")


def without_driver() -> str:
    try:
        NvmlInventory()
    except DeviceError as error:
        return str(error)
    pytest.skip("this host has an NVIDIA driver")


def test_without_a_driver_nvml_says_so() -> None:
    assert without_driver().startswith("the NVIDIA driver does not answer: ")
    with pytest.raises(DeviceError, match="the NVIDIA driver does not answer"):
        open_inventory("nvml")


def test_without_a_driver_auto_is_the_cpu_and_says_why() -> None:
    reason = without_driver()
    inventory = open_inventory("auto")
    assert inventory.source == f"cpu: {reason}"
    assert [device.id for device in inventory.read()] == ["cpu"]
