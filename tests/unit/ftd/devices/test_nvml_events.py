"""Xids: told the moment they happen, and which of them speak against a GPU."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.native.nvml import Fault, Gpu, Instance, World, loaded

from ftd.devices.nvml import NvmlInventory
from ftd.devices.nvml.health import XIDS
from ftsched.model import Device

NOT_SUPPORTED, GPU_IS_LOST, UNKNOWN = 3, 15, 999
SECONDS = 30


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    instances = (Instance("MIG-1", 1), Instance("MIG-2", 5))
    gpus = (Gpu("GPU-a"), Gpu("GPU-b", bus=2), Gpu("GPU-c", bus=3, mig=instances))
    with loaded(World(tmp_path / "world", *gpus)) as world:
        yield world


@pytest.fixture
def inventory(world: World) -> NvmlInventory:
    inventory = NvmlInventory()
    inventory.read()
    return inventory


@pytest.fixture
def reports(inventory: NvmlInventory) -> Iterator[queue.SimpleQueue[Device]]:
    """What a watch has reported."""
    found: queue.SimpleQueue[Device] = queue.SimpleQueue()
    stop = inventory.watch(found.put)
    yield found
    stop()


def unfit(inventory: NvmlInventory) -> dict[str, str]:
    return {device.id: device.unfit for device in inventory.read() if device.unfit}


@pytest.mark.parametrize("xid", sorted(XIDS))
def test_a_fatal_xid_stays_until_it_is_released(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device], xid: int
) -> None:
    world.xid("GPU-a", xid)
    told = reports.get(timeout=SECONDS)
    assert (told.id, told.unfit) == ("GPU-a", f"Xid {xid}: {XIDS[xid]}")
    inventory.release("GPU-b")
    assert unfit(inventory) == {"GPU-a": told.unfit}
    inventory.release("GPU-a")
    assert unfit(inventory) == {}


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 92, 94, 109, 154])
def test_what_a_program_did_or_the_driver_mended_is_let_pass(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device], xid: int
) -> None:
    world.xid("GPU-a", xid)
    # Events are told in order: with the second, the first has been heard.
    world.xid("GPU-b", 79)
    assert reports.get(timeout=SECONDS).id == "GPU-b"
    assert unfit(inventory).keys() == {"GPU-b"}


def test_an_xid_leads_to_what_the_driver_says_of_the_gpu(world: World, reports: queue.SimpleQueue[Device]) -> None:
    world.change("GPU-a", recovery=1)
    world.xid("GPU-a", 154)
    assert reports.get(timeout=SECONDS).unfit == "the driver wants a reset of the GPU"


def test_an_xid_of_an_instance_is_no_matter_of_the_others(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device]
) -> None:
    world.xid("GPU-c", 48, instance=5)
    assert reports.get(timeout=SECONDS).id == "MIG-2"
    assert unfit(inventory).keys() == {"MIG-2"}
    inventory.release("MIG-2")
    world.xid("GPU-c", 95)
    assert {reports.get(timeout=SECONDS).id for _ in range(2)} == {"MIG-1", "MIG-2"}


def test_a_gpu_that_falls_off_the_bus_is_known_by_its_event(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device]
) -> None:
    world.xid("GPU-a", 79)
    assert reports.get(timeout=SECONDS).unfit == f"Xid 79: {XIDS[79]}"
    world.change("GPU-a", lost=True)
    world.xid("GPU-b", 79)
    assert reports.get(timeout=SECONDS).id == "GPU-b"
    assert unfit(inventory)["GPU-a"].startswith(f"Xid 79: {XIDS[79]}; the driver does not answer for it: GPU is lost")


@pytest.mark.parametrize("function", ["nvmlEventSetWait_v2", "nvmlEventSetCreate", "nvmlDeviceGetCount_v2"])
def test_a_watch_outlives_a_driver_that_fails(world: World, reports: queue.SimpleQueue[Device], function: str) -> None:
    world.fail(Fault(function, UNKNOWN, times=2))
    world.xid("GPU-a", 79)
    assert reports.get(timeout=SECONDS).id == "GPU-a"


def test_a_gpu_that_tells_no_events_hides_none_of_the_others(world: World, inventory: NvmlInventory) -> None:
    world.fail(Fault("nvmlDeviceRegisterEvents", NOT_SUPPORTED, "GPU-a"))
    found: queue.SimpleQueue[Device] = queue.SimpleQueue()
    stop = inventory.watch(found.put)
    world.xid("GPU-b", 79)
    assert found.get(timeout=SECONDS).id == "GPU-b"
    stop()


def test_a_released_gpu_that_fails_again_is_reported_again(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device]
) -> None:
    for _ in range(2):
        world.xid("GPU-a", 79)
        assert reports.get(timeout=SECONDS).id == "GPU-a"
        inventory.release("GPU-a")


def test_an_xid_while_nothing_can_be_read_is_not_forgotten(
    world: World, inventory: NvmlInventory, reports: queue.SimpleQueue[Device]
) -> None:
    world.fail(Fault("nvmlDeviceGetCount_v2", UNKNOWN))
    world.xid("GPU-a", 79)
    world.fail()
    assert reports.get(timeout=SECONDS).id == "GPU-a"
    assert unfit(inventory).keys() == {"GPU-a"}
