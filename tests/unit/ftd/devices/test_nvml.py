"""What the adapter makes of what NVML says, read through the real pynvml from a library of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.native.nvml import GIB, Fault, Gpu, Instance, Process, World, loaded

from ftd.devices import DeviceError, open_inventory
from ftd.devices.nvml import NvmlInventory
from ftd.devices.port import Sensors
from ftsched.model import Device

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED, GPU_IS_LOST, VERSION_MISMATCH, UNKNOWN = (
    3, 4, 6, 9, 15, 18, 999,
)  # fmt: skip
NO_SUCH_NUMBER = 2**64 - 1
INSTANCES = (
    Instance("MIG-1", 1, processes=(Process(12, 3 * GIB),)),
    Instance("MIG-2", 5, total_bytes=20 * GIB, reserved_bytes=GIB),
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with loaded(World(tmp_path / "world", Gpu("GPU-a"), Gpu("GPU-b", bus=2))) as world:
        yield world


def read(world: World) -> dict[str, Device]:
    """The devices by id, as an inventory sees them that has just been opened."""
    del world
    return {device.id: device for device in NvmlInventory().read()}


def test_the_drivers_own_memory_is_nobodys(world: World) -> None:
    world.change("GPU-a", total_bytes=80 * GIB, reserved_bytes=GIB, used_bytes=30 * GIB)
    device = read(world)["GPU-a"]
    assert (device.total_bytes, device.used_bytes) == (79 * GIB, 30 * GIB)


def test_processes_come_and_go_and_have_their_names(world: World) -> None:
    inventory = NvmlInventory()
    assert inventory.read()[0].foreign == ()
    processes = (
        Process(os.getpid(), 5 * GIB),
        Process(2**22 + 1, GIB, "graphics"),
        Process(os.getpid(), GIB, "graphics"),
        Process(2**22 + 2, NO_SUCH_NUMBER, "mps"),
    )
    world.change("GPU-a", processes=processes, used_bytes=6 * GIB)
    found = {each.pid: (each.name, each.bytes) for each in inventory.read()[0].foreign}
    name = Path("/proc/self/comm").read_text().strip()
    assert found == {os.getpid(): (name, 5 * GIB), 2**22 + 1: ("?", GIB), 2**22 + 2: ("?", 0)}
    world.change("GPU-a", processes=(), used_bytes=0)
    assert inventory.read()[0].foreign == ()


def test_sensors_are_read_where_a_card_has_them(world: World) -> None:
    world.change("GPU-b", utilization_percent=None, temperature_celsius=None, power_milliwatts=None)
    world.fail(Fault("nvmlDeviceGetTemperature", UNKNOWN, "GPU-a"))
    inventory = NvmlInventory()
    assert inventory.sensors() == {"GPU-a": Sensors(40, None, 350), "GPU-b": Sensors()}
    assert [device.unfit for device in inventory.read()] == ["", ""]


@pytest.mark.parametrize("code", [DRIVER_NOT_LOADED, VERSION_MISMATCH])
def test_a_driver_that_does_not_start_is_said_by_name(tmp_path: Path, code: int) -> None:
    with loaded(World(tmp_path / "world", Gpu("GPU-a"), init=code)):
        with pytest.raises(
            DeviceError, match=r"the NVIDIA driver does not answer: (Driver Not Loaded|RM has detected)"
        ):
            open_inventory("nvml")
        assert open_inventory("auto").source.startswith("cpu: the NVIDIA driver does not answer: ")


def test_a_driver_without_gpus_leaves_the_cpu(tmp_path: Path) -> None:
    with loaded(World(tmp_path / "world")):
        assert open_inventory("auto").source == "cpu: the NVIDIA driver reports no GPU"


def source_in_a_process(environment: dict[str, str]) -> str:
    command = "from ftd.devices import open_inventory; print(open_inventory('auto').source)"
    run = [sys.executable, "-c", command]
    return subprocess.run(run, env={**os.environ, **environment}, check=True, capture_output=True, text=True).stdout


def test_a_process_finds_the_library_where_the_system_looks(tmp_path: Path) -> None:
    world = World(tmp_path / "world", Gpu("GPU-a"), driver="581.10")
    assert source_in_a_process(world.environment) == "nvml: driver 581.10\n"


def test_a_library_that_is_none_leaves_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    source = source_in_a_process({"LD_LIBRARY_PATH": str(tmp_path)})
    assert source == "cpu: the NVIDIA driver does not answer: NVML Shared Library Not Found\n"


@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetMigMode",
    ],
)
def test_a_call_that_fails_once_is_not_seen(world: World, function: str) -> None:
    inventory = NvmlInventory()
    before = inventory.read()
    world.fail(Fault(function, UNKNOWN, times=1))
    assert inventory.read() == before


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTotalEccErrors"]
)
def test_a_call_that_always_fails_takes_out_its_gpu_alone(world: World, function: str) -> None:
    now = iter([1_000_000_000.0, 1_000_000_000.0, *[1_000_000_060.0] * 20])
    inventory = NvmlInventory(clock=lambda: next(now))
    before = inventory.read()
    world.fail(Fault(function, UNKNOWN, "GPU-a"))
    a, b = inventory.read()
    assert a.unfit == "the driver does not answer for it: Unknown Error; last at 2001-09-09T01:46:40Z"
    assert (a.total_bytes, a.index) == (before[0].total_bytes, 0)
    assert b == before[1]
    assert inventory.read()[0].unfit == a.unfit
    world.fail()
    assert inventory.read() == before


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetRemappedRows",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetTopologyCommonAncestor",
    ],
)
def test_what_a_card_does_not_tell_is_not_missed(world: World, function: str, code: int) -> None:
    world.fail(Fault(function, code))
    assert [device.unfit for device in read(world).values()] == ["", ""]


def test_a_gpu_that_never_answered_is_counted(world: World) -> None:
    world.change("GPU-a", lost=True)
    inventory = NvmlInventory()
    a, b = inventory.read()
    assert (a.id, a.total_bytes, a.unfit) == ("gpu-0", 0, "the driver does not answer for it: GPU is lost")
    assert (b.id, b.unfit) == ("GPU-b", "")
    assert inventory.sensors()["gpu-0"] == Sensors()
    world.change("GPU-a", lost=False)
    assert [device.id for device in inventory.read()] == ["GPU-a", "GPU-b"]


def test_when_a_gpu_vanishes_the_others_keep_who_they_are(world: World) -> None:
    inventory = NvmlInventory()
    inventory.read()
    world.remove("GPU-a")
    world.fail(Fault("nvmlDeviceGetMemoryInfo_v2", UNKNOWN, "GPU-b"))
    assert {device.id: "Unknown Error" in device.unfit for device in inventory.read()} == {
        "GPU-a": False,
        "GPU-b": True,
    }
    world.fail()
    devices = {device.id: device for device in inventory.read()}
    assert (devices["GPU-b"].index, devices["GPU-b"].unfit) == (0, "")
    assert devices["GPU-a"].unfit.startswith("the driver does not answer for it: it is not listed any more; last at ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ecc_volatile": 2}, "2 uncorrected ECC errors since the last reset"),
        ({"rows_failed": True}, "a faulty row of memory could not be remapped: the GPU is to be replaced"),
        ({"recovery": 1}, "the driver wants a reset of the GPU"),
        ({"recovery": 2}, "the driver wants a reboot of the host"),
        ({"recovery": 99}, "the driver wants recovery action 99"),
        (
            {"ecc_volatile": 1, "recovery": 4},
            "1 uncorrected ECC errors since the last reset; the driver wants all work on it to end, and a reset",
        ),
        ({"ecc_volatile": None, "ecc_aggregate": None}, ""),
        ({"ecc_aggregate": 7}, ""),
        ({"rows_pending": True}, ""),
    ],
)
def test_health_is_what_the_driver_says_now(world: World, fields: dict[str, object], reason: str) -> None:
    world.change("GPU-a", **fields)
    devices = read(world)
    assert devices["GPU-a"].unfit == reason
    assert devices["GPU-b"].unfit == ""


def test_released_ecc_errors_are_forgiven_until_there_are_more(world: World) -> None:
    inventory = NvmlInventory()
    unfit = lambda: inventory.read()[0].unfit  # noqa: E731
    world.change("GPU-a", ecc_volatile=2)
    assert unfit()
    inventory.release("GPU-a")
    assert unfit() == ""
    world.change("GPU-a", ecc_volatile=3)
    assert unfit() == "1 uncorrected ECC errors since the last reset"
    # A reset sets the counter back, and what was forgiven with it.
    world.change("GPU-a", ecc_volatile=0)
    assert unfit() == ""
    world.change("GPU-a", ecc_volatile=2)
    assert unfit() == "2 uncorrected ECC errors since the last reset"


def test_mig_instances_take_the_place_of_their_gpu(world: World) -> None:
    world.change("GPU-a", mig=INSTANCES)
    inventory = NvmlInventory()
    first, second, b = inventory.read()
    assert (first.id, first.index, first.total_bytes, first.used_bytes) == ("MIG-1", 0, 10 * GIB, 3 * GIB)
    assert first.name == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert [(each.pid, each.bytes) for each in first.foreign] == [(12, 3 * GIB)]
    assert (second.id, second.total_bytes, second.links) == ("MIG-2", 19 * GIB, {})
    assert b.id == "GPU-b"
    assert inventory.sensors()["MIG-1"] == Sensors(40, 61, 350)


def test_what_is_wrong_with_a_gpu_is_wrong_with_its_instances(world: World) -> None:
    world.change("GPU-a", mig=INSTANCES)
    inventory = NvmlInventory()
    inventory.read()
    world.change("GPU-a", recovery=1)
    assert [bool(device.unfit) for device in inventory.read()] == [True, True, False]
    world.change("GPU-a", lost=True)
    devices = inventory.read()
    assert [device.id for device in devices if "GPU is lost" in device.unfit] == ["MIG-1", "MIG-2"]


def test_instances_may_be_made_anew(world: World) -> None:
    world.change("GPU-a", mig=INSTANCES)
    inventory = NvmlInventory()
    inventory.read()
    world.change("GPU-a", mig=(Instance("MIG-3", 1),))
    assert [(device.id, device.unfit) for device in inventory.read()] == [("MIG-3", ""), ("GPU-b", "")]


def test_a_divided_gpu_without_instances_takes_nothing(world: World) -> None:
    world.change("GPU-a", divided=True)
    assert read(world)["GPU-a"].unfit == "it is to be divided by MIG, and has no instance"


def test_links_are_nvlinks_then_switches_then_numa_nodes(tmp_path: Path) -> None:
    gpus = (
        Gpu("GPU-a", bus=1, numa=0, pcie_switch=1, nvlinks={"GPU-b": 2}),
        Gpu("GPU-b", bus=2, numa=0, pcie_switch=1, nvlinks={"GPU-a": 2}),
        Gpu("GPU-c", bus=3, numa=0, pcie_switch=1),
        Gpu("GPU-d", bus=4, numa=0, pcie_switch=2),
        Gpu("GPU-e", bus=5, numa=1, pcie_switch=3),
    )
    with loaded(World(tmp_path / "world", *gpus)) as world:
        devices = read(world)
    assert devices["GPU-a"].links == {"GPU-b": 12, "GPU-c": 2, "GPU-d": 1}
    assert devices["GPU-d"].links == {"GPU-a": 1, "GPU-b": 1, "GPU-c": 1}
    assert devices["GPU-e"].links == {}


def test_nvswitches_link_all_with_the_links_that_both_have(tmp_path: Path) -> None:
    gpus = [
        Gpu(f"GPU-{n}", bus=n, numa=n, pcie_switch=n, nvlinks={"switch": links})
        for n, links in ((1, 18), (2, 18), (3, 4))
    ]
    with loaded(World(tmp_path / "world", *gpus)) as world:
        devices = read(world)
    assert devices["GPU-1"].links == {"GPU-2": 28, "GPU-3": 14}
    assert devices["GPU-3"].links == {"GPU-1": 14, "GPU-2": 14}


def test_links_that_could_not_be_read_are_read_later(world: World) -> None:
    world.fail(Fault("nvmlDeviceGetTopologyCommonAncestor", UNKNOWN, times=1))
    inventory = NvmlInventory()
    assert [device.links for device in inventory.read()] == [{}, {}]
    assert [device.links for device in inventory.read()] == [{"GPU-b": 2}, {"GPU-a": 2}]
