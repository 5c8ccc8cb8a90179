"""GPUs written down in a TOML file instead of asked from a driver: for trying schedules and for tests.

    [[gpu]]
    uuid = "GPU-0"
    name = "NVIDIA H100 80GB HBM3"
    total_bytes = 85_899_345_920
    used_bytes = 0              # default: what its processes use
    [[gpu.process]]
    pid = 4711
    name = "python"
    used_bytes = 10_307_921_510

The file is read again each time, so that a test can let processes come and go.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ftd.devices.port import DeviceError, host_name
from ftsched.model import Device, Foreign

Bytes = Annotated[int, Field(ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Process(_Table):
    pid: int = Field(ge=1)
    name: str = "?"
    used_bytes: Bytes = 0


class _Gpu(_Table):
    uuid: str = Field(min_length=1)
    name: str = "declared GPU"
    total_bytes: int = Field(ge=1)
    used_bytes: Bytes | None = None
    process: list[_Process] = []

    @model_validator(mode="after")
    def _fits(self) -> _Gpu:
        if self.used > self.total_bytes:
            raise ValueError(f"{self.used} bytes are used of {self.total_bytes}")
        return self

    @property
    def used(self) -> int:
        by_processes = sum(each.used_bytes for each in self.process)
        return by_processes if self.used_bytes is None else self.used_bytes


class _File(_Table):
    gpu: list[_Gpu] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> _File:
        uuids = [gpu.uuid for gpu in self.gpu]
        twice = sorted({uuid for uuid in uuids if uuids.count(uuid) > 1})
        if twice:
            raise ValueError(f"the uuid {', '.join(twice)} stands there more than once")
        return self


class DeclaredInventory:
    """The GPUs of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.source = f"file: {file}"

    def read(self) -> tuple[Device, ...]:
        """See Inventory."""
        try:
            gpus = _File.model_validate(tomllib.loads(self._file.read_text(encoding="utf-8"))).gpu
        except OSError as error:
            raise DeviceError(f"{self._file}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DeviceError(f"{self._file}: not valid TOML: {error}") from error
        except ValidationError as error:
            raise DeviceError(f"{self._file}: {'; '.join(_line(each) for each in error.errors())}") from error
        return tuple(_device(index, gpu) for index, gpu in enumerate(gpus))


def _line(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"]).removeprefix("Value error, ")


def _device(index: int, gpu: _Gpu) -> Device:
    return Device(
        id=gpu.uuid,
        host=host_name(),
        kind="gpu",
        name=gpu.name,
        index=index,
        total_bytes=gpu.total_bytes,
        used_bytes=gpu.used,
        foreign=tuple(Foreign(each.pid, each.name, each.used_bytes) for each in gpu.process),
    )
