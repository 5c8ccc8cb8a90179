"""What every inventory of devices does, and what each one says when it cannot."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Protocol

import pytest
from tests.native.nvml import GIB, Fault, Gpu, Process, World, loaded

from ftd.devices import DeviceError, Inventory, open_inventory
from ftd.devices.cpu import CpuInventory
from ftd.devices.declared import DeclaredInventory
from ftd.devices.nvml import NvmlInventory
from ftsched.model import Device

RECOVERY_ACTION_CHANGED = 154
UNKNOWN_ERROR = 999
TWO_GPUS = f"""
[[gpu]]
uuid = "GPU-a"
name = "H100"
total_bytes = {80 * GIB}
links = {{ GPU-b = 14 }}
utilization_percent = 40
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


class Place(Protocol):
    """An inventory, and the world it reads: two GPUs that are linked, the first with a process."""

    inventory: Inventory

    def spoil(self) -> None:
        """The first GPU becomes unfit."""

    def mend(self) -> None:
        """It is fit again."""

    def remove(self) -> None:
        """It is not there any more."""

    def blind(self) -> None:
        """Nothing can be read."""


class DeclaredPlace:
    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "gpus.toml"
        self.mend()
        self.inventory: Inventory = DeclaredInventory(self.file)

    def mend(self) -> None:
        self.file.write_text(TWO_GPUS, encoding="utf-8")

    def spoil(self) -> None:
        self.file.write_text(TWO_GPUS.replace("[[gpu]]", '[[gpu]]\nunfit = "it smokes"', 1), encoding="utf-8")

    def remove(self) -> None:
        self.file.write_text("[[gpu]]" + TWO_GPUS.split("[[gpu]]")[2].replace("links", "# links"), encoding="utf-8")

    def blind(self) -> None:
        self.file.unlink()


class NvmlPlace:
    def __init__(self, tmp_path: Path) -> None:
        first = Gpu("GPU-a", name="H100", processes=(Process(4711, 9 * GIB),), nvlinks={"GPU-b": 4})
        second = Gpu("GPU-b", bus=2, total_bytes=24 * GIB, used_bytes=2 * GIB, nvlinks={"GPU-a": 4})
        self.world = World(tmp_path / "world", first, second)
        self.stack = ExitStack()
        self.stack.enter_context(loaded(self.world))
        self.inventory: Inventory = NvmlInventory()

    def mend(self) -> None:
        self.world.change("GPU-a", recovery=0)

    def spoil(self) -> None:
        self.world.change("GPU-a", recovery=1)
        self.world.xid("GPU-a", RECOVERY_ACTION_CHANGED)

    def remove(self) -> None:
        self.world.remove("GPU-a")

    def blind(self) -> None:
        self.world.fail(Fault("nvmlDeviceGetCount_v2", UNKNOWN_ERROR))


@pytest.fixture(params=[DeclaredPlace, NvmlPlace], ids=["file", "nvml"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = request.param(tmp_path)
    with getattr(made, "stack", nullcontext()):
        yield made


@pytest.fixture(params=["file", "cpu", "nvml", "driver"])
def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inventory]:
    match request.param:
        case "file":
            yield DeclaredPlace(tmp_path).inventory
        case "cpu":
            yield CpuInventory()
        case "nvml":
            made = NvmlPlace(tmp_path)
            with made.stack:
                yield made.inventory
        case "driver":
            yield driver()


def driver() -> Inventory:
    """The driver of this host, if it has one."""
    try:
        return NvmlInventory()
    except DeviceError as error:
        pytest.skip(str(error))


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
        assert device.unfit == ""
        assert all(speed > 0 for speed in device.links.values())


def test_every_device_has_its_sensors(inventory: Inventory) -> None:
    sensors = inventory.sensors()
    assert sensors.keys() == {device.id for device in inventory.read()}
    for each in sensors.values():
        assert each.utilization_percent is None or 0 <= each.utilization_percent <= 100
        assert each.power_watts is None or each.power_watts >= 0


def test_two_gpus_look_the_same_whoever_tells(place: Place) -> None:
    a, b = place.inventory.read()
    assert (a.id, a.name, a.index, a.used_bytes) == ("GPU-a", "H100", 0, 9 * GIB)
    assert [(process.pid, process.bytes) for process in a.foreign] == [(4711, 9 * GIB)]
    assert (b.id, b.index, b.used_bytes, b.foreign) == ("GPU-b", 1, 2 * GIB, ())
    assert (a.links, b.links) == ({"GPU-b": 14}, {"GPU-a": 14})
    assert place.inventory.sensors()["GPU-a"].utilization_percent == 40


def test_what_breaks_is_unfit_until_it_is_mended(place: Place) -> None:
    before = place.inventory.read()
    place.spoil()
    a, b = place.inventory.read()
    assert a.unfit
    assert (a.id, a.name, a.total_bytes, a.used_bytes) == ("GPU-a", "H100", before[0].total_bytes, 9 * GIB)
    assert b == before[1]
    place.mend()
    assert place.inventory.read() == before


def test_what_vanishes_stays_listed_and_says_so(place: Place) -> None:
    before = place.inventory.read()
    place.remove()
    after = {device.id: device for device in place.inventory.read()}
    assert "any more" in after["GPU-a"].unfit
    assert after["GPU-b"].unfit == ""
    place.inventory.release("GPU-a")
    assert {device.id: device for device in place.inventory.read()}["GPU-a"].unfit
    assert len(before) == 2


def test_what_cannot_be_read_is_an_error_and_then_forgotten(place: Place) -> None:
    before = place.inventory.read()
    place.blind()
    with pytest.raises(DeviceError, match="cannot be read"):
        place.inventory.read()
    if isinstance(place, NvmlPlace):
        place.world.fail()
    place.mend()
    assert place.inventory.read() == before


def test_a_watch_reports_what_becomes_unfit_each_time(place: Place) -> None:
    reports: queue.SimpleQueue[Device] = queue.SimpleQueue()
    stop = place.inventory.watch(reports.put)
    try:
        for _ in range(2):
            place.spoil()
            told = reports.get(timeout=30)
            assert told == place.inventory.read()[0]
            assert told.unfit
            place.mend()
    finally:
        stop()


def test_no_thread_is_left_after_a_watch(inventory: Inventory) -> None:
    before = threading.active_count()
    inventory.watch(lambda _: None)()
    assert threading.active_count() == before


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
    assert [device.id for device in inventory.read() if not device.unfit] == ["GPU-c"]


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
