"""The world that the library in nvml.c shows: GPUs as values, written to its scenario file, and the library's build.

    world = World(tmp_path / "world", Gpu("GPU-a", processes=(Process(4711, 9 * GIB),)))
    world.change("GPU-a", lost=True)     under a running daemon: the library reads the file again
    world.xid("GPU-a", 79)               an event, told to whoever waits for one

A process finds the library by `LD_LIBRARY_PATH=library().parent` and the world by `FTD_NVML_SCENARIO`; `environment`
says both. For this process, `loaded` puts it into pynvml's place for a library.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

GIB = 2**30
SOURCE = Path(__file__).with_name("nvml.c")
BUILD = Path(__file__).parents[2] / "build" / "native"
SCENARIO = "FTD_NVML_SCENARIO"
WHOLE_GPU = 0xFFFFFFFF
KINDS = ("compute", "graphics", "mps")
ALWAYS = -1
# Of all worlds: a library that is loaded once tells the second from the first by them.
_REVISIONS, _EVENTS = itertools.count(1), itertools.count(1)


@dataclass(frozen=True)
class Process:
    """Somebody with memory on a GPU; of `kind` compute, graphics or mps."""

    pid: int
    bytes: int
    kind: str = "compute"


@dataclass(frozen=True)
class Instance:
    """A MIG instance."""

    uuid: str
    number: int
    name: str = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    total_bytes: int = 10 * GIB
    reserved_bytes: int = 0
    processes: tuple[Process, ...] = ()

    @property
    def lines(self) -> Iterator[str]:
        used = sum(process.bytes for process in self.processes)
        yield f"name {self.name}"
        yield f"memory {self.total_bytes} {self.reserved_bytes} {used}"
        yield from (f"process {KINDS.index(each.kind)} {each.pid} {each.bytes}" for each in self.processes)
        yield "sensors -1 -1 -1"
        yield "ecc -1 -1"
        yield "place -1 -1"


@dataclass(frozen=True)
class Gpu:
    """A GPU. Sensors and counters are None where the card does not tell; `nvlinks` is links by peer or "switch".

    `divided`: MIG is on; with instances it is anyway.
    """

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    bus: int = 1
    total_bytes: int = 80 * GIB
    reserved_bytes: int = GIB // 2
    used_bytes: int | None = None
    processes: tuple[Process, ...] = ()
    utilization_percent: int | None = 40
    temperature_celsius: int | None = 61
    power_milliwatts: int | None = 350_400
    ecc_volatile: int | None = 0
    ecc_aggregate: int | None = 0
    rows_pending: bool = False
    rows_failed: bool = False
    recovery: int = 0
    numa: int | None = 0
    pcie_switch: int = 0
    nvlinks: Mapping[str, int] = field(default_factory=dict)
    lost: bool = False
    divided: bool = False
    mig: tuple[Instance, ...] = ()

    @property
    def lines(self) -> Iterator[str]:
        used = sum(process.bytes for process in self.processes) if self.used_bytes is None else self.used_bytes
        yield f"device {self.uuid}"
        yield f"name {self.name}"
        yield f"bus {self.bus}"
        yield f"memory {self.total_bytes} {self.reserved_bytes} {used}"
        yield from (f"process {KINDS.index(each.kind)} {each.pid} {each.bytes}" for each in self.processes)
        yield f"sensors {_told(self.utilization_percent, self.temperature_celsius, self.power_milliwatts)}"
        yield f"ecc {_told(self.ecc_volatile, self.ecc_aggregate)}"
        yield f"rows {self.rows_pending:d} {self.rows_failed:d}"
        yield f"recovery {self.recovery}"
        yield f"place {_told(self.numa, self.pcie_switch)}"
        yield from (f"nvlink {peer} {links}" for peer, links in self.nvlinks.items())
        yield from (word for word in ("lost", "divided") if getattr(self, word))
        for each in self.mig:
            yield f"mig {each.uuid} {each.number}"
            yield from each.lines


@dataclass(frozen=True)
class Fault:
    """Calls of `function` for a GPU ("*": any) that end with an NVML error, the first `times` of them."""

    function: str
    code: int
    uuid: str = "*"
    times: int = ALWAYS


class World:
    """A scenario file. Each change replaces it, so that no reader ever sees half of one."""

    def __init__(self, file: Path, *gpus: Gpu, driver: str = "580.95.05", init: int = 0) -> None:
        self.file = file
        self.gpus = {gpu.uuid: gpu for gpu in gpus}
        self._head = [f"driver {driver}", f"init {init}"]
        self._faults: tuple[Fault, ...] = ()
        self._events: list[str] = []
        self._write()

    def change(self, uuid: str, **fields: Any) -> None:
        """A GPU is otherwise from now on."""
        self.gpus[uuid] = replace(self.gpus[uuid], **fields)
        self._write()

    def remove(self, uuid: str) -> None:
        """A GPU is not listed any more."""
        del self.gpus[uuid]
        self._write()

    def fail(self, *faults: Fault) -> None:
        """These calls fail from now on, and no others."""
        self._faults = faults
        self._write()

    def xid(self, uuid: str, number: int, instance: int = WHOLE_GPU) -> None:
        """The driver reports an Xid."""
        self._events.append(f"event {next(_EVENTS)} {uuid} {number} {instance}")
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to live in this world."""
        return {SCENARIO: str(self.file), "LD_LIBRARY_PATH": str(library().parent)}

    def _write(self) -> None:
        lines = [
            f"revision {next(_REVISIONS)}",
            *self._head,
            *(line for gpu in self.gpus.values() for line in gpu.lines),
        ]
        lines += [f"fail {each.function} {each.uuid} {each.code} {each.times}" for each in self._faults]
        lines += self._events
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        new.replace(self.file)


def library() -> Path:
    """The library, built by the system's compiler. Skips the test where there is none."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the system has no C compiler: cc")
    # No soname: once it was loaded, the system's own library would never be found by it again.
    folder = BUILD / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    built = folder / "libnvidia-ml.so.1"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Several test processes may build at once: each builds its own, the last one stays.
        own = folder / f"{os.getpid()}.so"
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-pthread"]
        subprocess.run([compiler, *flags, "-o", own, SOURCE], check=True)
        own.replace(built)
    return built


@contextmanager
def loaded(world: World) -> Iterator[World]:
    """pynvml of this process speaks with the library, and the library shows `world`."""
    with pytest.MonkeyPatch.context() as patch:
        # Where pynvml keeps the library it has found, and the functions it has looked up there.
        patch.setattr(pynvml, "nvmlLib", stub := ctypes.CDLL(str(library())))
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        patch.setenv(SCENARIO, str(world.file))
        yield world
        # As often as it was initialised.
        while stub.nvmlShutdown() == pynvml.NVML_SUCCESS:
            pass


def _told(*values: int | None) -> str:
    return " ".join("-1" if value is None else str(value) for value in values)
