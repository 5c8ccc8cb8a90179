"""GPUs written down in a TOML file instead of asked from a driver: a whole world to try schedules and for tests.

    [[gpu]]
    uuid = "GPU-0"
    name = "NVIDIA H100 80GB HBM3"
    total_bytes = 85_899_345_920
    used_bytes = 0                  # default: what its processes use
    unfit = "Xid 79"                # why nothing may be started on it; default: it is fit
    links = { GPU-1 = 28 }          # how fast it talks to others, both ways; higher is faster, absent is slowest
    utilization_percent = 97        # these three are only shown
    temperature_celsius = 61
    power_watts = 350
    [[gpu.process]]                 # somebody who is not ours
    pid = 4711
    name = "python"
    used_bytes = 10_307_921_510
    [[gpu.mig]]                     # its instances take jobs, and it does not
    uuid = "MIG-0"                  # and name, total_bytes, used_bytes, unfit, process as above

The file is read again each time, so that a test can let things come, go and break. All that is wrong with it is said at
once.
"""

from __future__ import annotations

import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from asyncinotify import Inotify, Mask
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ftd.devices.port import DeviceError, Sensors, Stop, host_name
from ftd.devices.watch import in_thread
from ftsched.model import Device, Foreign

Bytes = Annotated[int, Field(ge=0)]
# How long an end of the watch takes.
_SLICE_SECONDS = 0.25


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Process(_Table):
    pid: int = Field(ge=1)
    name: str = Field(default="?", min_length=1)
    used_bytes: Bytes = 0


class _Part(_Table):
    """What a job can be placed on."""

    uuid: str = Field(min_length=1)
    name: str = Field(default="declared GPU", min_length=1)
    total_bytes: int = Field(ge=1)
    used_bytes: Bytes | None = None
    unfit: str = ""
    process: list[_Process] = []

    @model_validator(mode="after")
    def _fits(self) -> _Part:
        if self.used > self.total_bytes:
            raise ValueError(f"{self.used} bytes are used; accepted are at most total_bytes, {self.total_bytes}")
        return self

    @property
    def used(self) -> int:
        by_processes = sum(each.used_bytes for each in self.process)
        return by_processes if self.used_bytes is None else self.used_bytes


class _Gpu(_Part):
    links: dict[str, Annotated[int, Field(ge=1)]] = {}
    utilization_percent: int | None = Field(default=None, ge=0, le=100)
    temperature_celsius: int | None = None
    power_watts: int | None = Field(default=None, ge=0)
    mig: list[_Part] = []


class _File(_Table):
    gpu: list[_Gpu] = Field(min_length=1)


_TABLES: dict[str, type[_Table]] = {"gpu": _Gpu, "mig": _Part, "process": _Process}


class DeclaredInventory:
    """The GPUs of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.source = f"file: {file}"
        self._seen: dict[str, Device] = {}

    def read(self) -> tuple[Device, ...]:
        """See Inventory."""
        devices = tuple(_devices(self._gpus()))
        ids = {device.id for device in devices}
        gone = [
            replace(seen, unfit="it is not in the file any more", lost=True)
            for id_, seen in self._seen.items()
            if id_ not in ids
        ]
        self._seen = {device.id: device for device in (*devices, *gone)}
        return (*devices, *gone)

    def sensors(self) -> Mapping[str, Sensors]:
        """See Inventory."""
        return {
            part.uuid: Sensors(gpu.utilization_percent, gpu.temperature_celsius, gpu.power_watts)
            for gpu in self._gpus()
            for part in gpu.mig or [gpu]
        }

    def watch(self, report: Callable[[Device], None]) -> Stop:
        """See Inventory. Each change of the file is an event for what is unfit by it."""
        changes = _Changes(self._file)

        def run(ended: threading.Event) -> None:
            for _ in changes.until(ended):
                for device in self._unfit():
                    report(device)

        return in_thread(run)

    def release(self, device: str) -> None:
        """See Inventory. What the file says is how it is now: there is nothing to forgive."""

    def _unfit(self) -> list[Device]:
        try:
            return [device for device in self.read() if device.unfit and not device.lost]
        except DeviceError:
            # Whoever needs the devices meets that himself.
            return []

    def _gpus(self) -> list[_Gpu]:
        try:
            values = tomllib.loads(self._file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DeviceError(f"{self._file}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DeviceError(f"{self._file}: not valid TOML: {error}") from error
        try:
            problems, gpus = [], _File.model_validate(values).gpu
        except ValidationError as error:
            problems, gpus = [_line(each) for each in error.errors()], []
        problems += _uuid_problems(values)
        if problems:
            raise DeviceError(f"{self._file}: {'; '.join(problems)}")
        return gpus


class _Changes:
    """The moments at which a file is written or replaced, from the time this is made."""

    def __init__(self, file: Path) -> None:
        self._name = file.name
        self._inotify = Inotify(sync_timeout=_SLICE_SECONDS)
        # The folder, since an editor replaces the file.
        self._inotify.add_watch(file.parent, Mask.CLOSE_WRITE | Mask.MOVED_TO)

    def until(self, ended: threading.Event) -> Iterator[None]:
        """Yields after each change, until soon after `ended` is set."""
        with self._inotify:
            while not ended.is_set():
                event = self._inotify.sync_get()
                if event is not None and str(event.name) == self._name:
                    yield


def _devices(gpus: list[_Gpu]) -> Iterator[Device]:
    links: dict[str, dict[str, int]] = {gpu.uuid: {} for gpu in gpus}
    for gpu in gpus:
        for other, speed in gpu.links.items():
            links[gpu.uuid][other] = links[other][gpu.uuid] = speed
    for index, gpu in enumerate(gpus):
        for part in gpu.mig or [gpu]:
            yield _device(index, part, links.get(part.uuid, {}), part.unfit or gpu.unfit)


def _device(index: int, part: _Part, links: Mapping[str, int], unfit: str) -> Device:
    return Device(
        id=part.uuid,
        host=host_name(),
        kind="gpu",
        name=part.name,
        index=index,
        total_bytes=part.total_bytes,
        used_bytes=part.used,
        foreign=tuple(Foreign(each.pid, each.name, each.used_bytes) for each in part.process),
        unfit=unfit,
        links=links,
    )


def _line(error: Any) -> str:
    """One of pydantic's findings: where, what is wrong, what was given."""
    place = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        table = next((_TABLES[part] for part in reversed(error["loc"][:-1]) if part in _TABLES), _File)
        return f"{place}: unknown key; known are {', '.join(table.model_fields)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def _place(location: tuple[str | int, ...]) -> str:
    """As it stands in the file: the second GPU is gpu[2]."""
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _uuid_problems(values: dict[str, Any]) -> Iterator[str]:
    """What is wrong between entries, even where single entries are wrong too."""
    gpus = [gpu for gpu in _tables(values, "gpu") if isinstance(gpu.get("uuid"), str)]
    parts = [*gpus, *(part for gpu in gpus for part in _tables(gpu, "mig") if isinstance(part.get("uuid"), str))]
    counts = Counter(part["uuid"] for part in parts)
    for uuid, count in counts.items():
        if count > 1:
            yield f"the uuid {uuid} stands there {count} times; accepted is once"
    known = {gpu["uuid"] for gpu in gpus}
    for gpu in gpus:
        links = gpu.get("links")
        for other in links if isinstance(links, dict) else ():
            if other not in known - {gpu["uuid"]}:
                yield f"{gpu['uuid']}: links to {other}; accepted are the uuids of other GPUs in the file"


def _tables(values: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = values.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
