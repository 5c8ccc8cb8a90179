"""What a declared inventory may say, and how all that is wrong with it is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftd.devices import DeviceError, Sensors
from ftd.devices.declared import DeclaredInventory

GPU = '[[gpu]]\nuuid = "a"\ntotal_bytes = 5\n'
KEYS = (
    "uuid, name, total_bytes, used_bytes, unfit, process, links, "
    "utilization_percent, temperature_celsius, power_watts, mig"
)


def inventory(tmp_path: Path, text: str) -> DeclaredInventory:
    file = tmp_path / "gpus.toml"
    file.write_text(text, encoding="utf-8")
    return DeclaredInventory(file)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(DeviceError) as refused:
        inventory(tmp_path, text).read()
    place, _, rest = str(refused.value).partition("gpus.toml: ")
    assert place
    return rest.split("; ")


def test_the_file_can_tell_all_that_a_driver_can(tmp_path: Path) -> None:
    text = """
        [[gpu]]
        uuid = "GPU-a"
        name = "H100"
        total_bytes = 1000
        unfit = "Xid 79"
        links = { GPU-b = 28 }
        utilization_percent = 97
        temperature_celsius = 61
        power_watts = 350
        [[gpu.process]]
        pid = 4711
        name = "python"
        used_bytes = 300

        [[gpu]]
        uuid = "GPU-b"
        total_bytes = 1000
        temperature_celsius = 50
        [[gpu.mig]]
        uuid = "MIG-1"
        name = "1g.10gb"
        total_bytes = 100
        [[gpu.mig.process]]
        pid = 12
        used_bytes = 40
        [[gpu.mig]]
        uuid = "MIG-2"
        total_bytes = 200
        unfit = "broken"
    """
    declared = inventory(tmp_path, text)
    a, first, second = declared.read()
    assert (a.id, a.name, a.index, a.used_bytes, a.unfit) == ("GPU-a", "H100", 0, 300, "Xid 79")
    assert a.links == {"GPU-b": 28}
    assert [(each.pid, each.name, each.bytes) for each in a.foreign] == [(4711, "python", 300)]
    assert (first.id, first.name, first.index, first.used_bytes, first.unfit) == ("MIG-1", "1g.10gb", 1, 40, "")
    assert (second.id, second.total_bytes, second.unfit) == ("MIG-2", 200, "broken")
    hot = Sensors(temperature_celsius=50)
    assert declared.sensors() == {"GPU-a": Sensors(97, 61, 350), "MIG-1": hot, "MIG-2": hot}


def test_links_hold_both_ways(tmp_path: Path) -> None:
    text = GPU + "links = { b = 3 }\n" + GPU.replace('"a"', '"b"')
    a, b = inventory(tmp_path, text).read()
    assert (a.links, b.links) == ({"b": 3}, {"a": 3})


def test_a_gpu_that_is_unfit_has_unfit_instances(tmp_path: Path) -> None:
    text = GPU + 'unfit = "hot"\n[[gpu.mig]]\nuuid = "m"\ntotal_bytes = 1\n'
    (instance,) = inventory(tmp_path, text).read()
    assert (instance.id, instance.unfit) == ("m", "hot")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            GPU + "memory = 3\n",
            f"gpu[1].memory: unknown key; known are {KEYS}",
        ),
        (
            GPU + "[[gpu.process]]\npid = 1\ncpu = 2\n",
            "gpu[1].process[1].cpu: unknown key; known are pid, name, used_bytes",
        ),
        (GPU + "[host]\nname = 'x'\n", "host: unknown key; known are gpu"),
        (GPU.replace("5", "-5"), "gpu[1].total_bytes: input should be greater than or equal to 1 (got -5)"),
        (GPU + "used_bytes = -1\n", "gpu[1].used_bytes: input should be greater than or equal to 0 (got -1)"),
        (GPU.replace("5", '"5"'), "gpu[1].total_bytes: input should be a valid integer (got '5')"),
        (GPU + "used_bytes = 6\n", "gpu[1]: 6 bytes are used; accepted are at most total_bytes, 5"),
        ('[[gpu]]\nuuid = "a"\n', "gpu[1].total_bytes: field required"),
        (
            GPU + "utilization_percent = 101\n",
            "gpu[1].utilization_percent: input should be less than or equal to 100 (got 101)",
        ),
        (
            GPU + "[[gpu.process]]\npid = 0\n",
            "gpu[1].process[1].pid: input should be greater than or equal to 1 (got 0)",
        ),
        (2 * GPU, "the uuid a stands there 2 times; accepted is once"),
        (GPU + '[[gpu.mig]]\nuuid = "a"\ntotal_bytes = 1\n', "the uuid a stands there 2 times; accepted is once"),
        (GPU + "links = { b = 1 }\n", "a: links to b; accepted are the uuids of other GPUs in the file"),
        (GPU + "links = { a = 1 }\n", "a: links to a; accepted are the uuids of other GPUs in the file"),
        ("", "gpu: field required"),
        ("gpu = []\n", "gpu: list should have at least 1 item after validation, not 0"),
        ("gpu = 3\n", "gpu: input should be a valid list (got 3)"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(tmp_path: Path, text: str, problem: str) -> None:
    assert "; ".join(problems(tmp_path, text)) == problem


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = (
        GPU.replace("5", "-5") + "memory = 3\nlinks = { c = 1 }\n" + GPU + GPU.replace('"a"', "7") + "used_bytes = 9\n"
    )
    found = " ".join(problems(tmp_path, text))
    for part in ("gpu[1].total_bytes", "gpu[1].memory", "gpu[3].uuid", "links to c", "the uuid a stands there 2 times"):
        assert part in found


@pytest.mark.parametrize("content", [b"gpu = [", b"\xff\xfe"])
def test_a_file_that_is_no_toml_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gpus.toml").write_bytes(content)
    with pytest.raises(DeviceError, match=r"gpus\.toml: not valid TOML"):
        DeclaredInventory(tmp_path / "gpus.toml").read()
