"""The daemon's configuration: a TOML file, every key known, every value checked before anything starts.

`load` reads it and answers with frozen models, or raises ConfigError that names the file, the key and what would be
accepted. Nothing else in the daemon reads the environment for settings or has a default of its own.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ftd.limits import NAME

# Longest path a unix socket may have on Linux (sun_path, with its closing zero).
SOCKET_PATH_BYTES = 107
# How pydantic says that it means a key of a mapping, not its value.
_KEY = "[key]"


class ConfigError(Exception):
    """The configuration cannot be used; one line per problem."""


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _project(name: str) -> str:
    if not NAME.test(name):
        raise ValueError(f"is no name of a project; accepted is {NAME.accepted}")
    return name


def _data_url(url: str) -> str:
    if not re.fullmatch(r"(https?|s3|gs)://[^/@?#\s]+/([^?#\s]*/)?", url):
        raise ValueError('is no beginning of URLs; accepted is one that ends with a slash, e.g. "s3://bucket/sets/"')
    return url


# Strict everywhere else: a quoted number in the file is a mistake, not a number.
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
Paths = Annotated[tuple[AbsolutePath, ...], Field(strict=False)]
Command = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
DataUrl = Annotated[str, AfterValidator(_data_url)]
Project = Annotated[str, AfterValidator(_project)]
Sharing = Literal["share", "exclusive"]


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def _default_state_directory() -> Path:
    """systemd's, else XDG's, else ~/.local/state, each with our name."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base) / "finetuned"


class DaemonSection(Section):
    """Where the daemon lives and how it talks about itself."""

    state_directory: AbsolutePath = Field(default_factory=_default_state_directory)
    # Unset: ftd.sock in systemd's or XDG's runtime directory, else in the state directory.
    socket: AbsolutePath | None = None
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens."""
        if self.socket is not None:
            return self.socket
        if runtime := os.environ.get("RUNTIME_DIRECTORY"):
            return Path(runtime.split(":")[0]) / "ftd.sock"
        if runtime := os.environ.get("XDG_RUNTIME_DIR"):
            return Path(runtime) / "finetuned" / "ftd.sock"
        return self.state_directory / "ftd.sock"

    @model_validator(mode="after")
    def _socket_fits(self) -> DaemonSection:
        length = len(os.fsencode(self.socket_path))
        if length > SOCKET_PATH_BYTES:
            raise ValueError(f"the socket's path has {length} bytes, at most {SOCKET_PATH_BYTES} work; set socket")
        return self


class PathsSection(Section):
    """Below which folders a job may read models and data and leave its output."""

    model_roots: Paths = (Path("~"),)
    data_roots: Paths = (Path("~"),)
    output_roots: Paths = (Path("~"),)
    # With Python files that jobs may run functions of, as rewards. Nobody else should be able to write there.
    code_roots: Paths = ()


class DevicesSection(Section):
    """What jobs run on."""

    inventory: Literal["auto", "nvml", "cpu", "file"] = "auto"
    file: AbsolutePath | None = None
    # exclusive: one job on a GPU; share: several while their reservations fit.
    gpu_policy: Sharing = "share"
    # The same for single GPUs, by UUID.
    gpu_policies: Mapping[str, Sharing] = Field(default_factory=dict)
    # Trainings at once on the CPU.
    cpu_jobs: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _file_with_file(self) -> DevicesSection:
        if (self.inventory == "file") != (self.file is not None):
            raise ValueError('file goes with inventory = "file", and only with it')
        return self


class QuotaSection(Section):
    """The most that the jobs of a project may hold at once; what is left out has no limit."""

    devices: int | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    running: int | None = Field(default=None, ge=0)
    # Jobs that have not ended.
    queued: int | None = Field(default=None, ge=0)


class QueueSection(Section):
    """Who goes first, who may pass, and who has to make room."""

    # spread: a job that may share a GPU takes an idle one first. pack: it goes where it leaves the fewest fragments.
    placement: Literal["spread", "pack"] = "spread"
    # What may pass the first job that does not fit: nothing, whatever fits, or what does not delay it.
    backfill: Literal["none", "fill", "easy"] = "easy"
    # For whom running jobs are stopped: nobody, jobs of a higher priority, or also much shorter ones.
    preempt: Literal["off", "priority", "service"] = "priority"
    # How long a job is left alone after each of its starts.
    min_run_seconds: float = Field(default=600.0, ge=0, le=864_000)
    # Waiting so long counts as much as needing half the service.
    aging_seconds: float = Field(default=604_800.0, gt=0, le=31_536_000)
    # After so long, what a project has had counts half.
    half_life_seconds: float = Field(default=604_800.0, gt=0, le=31_536_000)
    # Shares of projects; 1 for one that is not named.
    weights: Mapping[Project, Annotated[float, Field(gt=0, le=1_000_000)]] = Field(default_factory=dict)
    quotas: Mapping[Project, QuotaSection] = Field(default_factory=dict)


class TrainerSection(Section):
    """How the processes of a job are started and stopped."""

    rank_command: Command = (sys.executable, "-m", "fttrain.train")
    prepare_command: Command = (sys.executable, "-m", "fttrain.prepare")
    # Arithmetic threads of a process; 0: its own default.
    threads: int = Field(default=0, ge=0, le=4096)
    # Seconds from a stop request to SIGTERM, and from there to SIGKILL.
    stop_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    kill_grace_seconds: float = Field(default=10.0, ge=0, le=3600)
    # Preparations at once; they use the CPU only.
    preparations: int = Field(default=2, ge=1, le=64)


class LimitsSection(Section):
    """Numbers that keep one caller from taking the daemon from the others."""

    spec_bytes: int = Field(default=262_144, ge=1024, le=4_194_304)
    # Jobs that have not ended.
    active_jobs: int = Field(default=1000, ge=1, le=100_000)
    # Calls at once, streams included.
    calls: int = Field(default=1024, ge=8, le=65_536)
    # Open streams at once, of all callers.
    streams: int = Field(default=512, ge=1, le=65_536)
    # Changes of state of all jobs that are kept for those who follow them from a cursor.
    changes: int = Field(default=100_000, ge=100, le=10_000_000)
    # The cache of prepared rows; more only while live jobs need it.
    prepared_bytes: int = Field(default=100 * 2**30, ge=0)
    # The largest file that is fetched from a URL.
    fetched_bytes: int = Field(default=20 * 2**30, ge=0)
    # The largest data set that is uploaded, and all of them together.
    upload_bytes: int = Field(default=20 * 2**30, ge=0)
    datasets_bytes: int = Field(default=100 * 2**30, ge=0)


class SecuritySection(Section):
    """What a job may never decide for itself."""

    allow_remote_code: bool = False
    allow_hub: bool = False
    # Beginnings of the URLs that rows may be fetched from, each up to a slash.
    data_urls: tuple[DataUrl, ...] = Field(default=(), strict=False)
    # Who else may be told a job's metrics; all but tensorboard and trackio are told over the network.
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        default=("tensorboard", "trackio"), strict=False
    )
    # Folder with a file for each secret that a spec may name.
    secrets: AbsolutePath | None = None


class Config(Section):
    """The whole file."""

    daemon: DaemonSection = Field(default_factory=DaemonSection)
    paths: PathsSection = Field(default_factory=PathsSection)
    devices: DevicesSection = Field(default_factory=DevicesSection)
    queue: QueueSection = Field(default_factory=QueueSection)
    trainer: TrainerSection = Field(default_factory=TrainerSection)
    limits: LimitsSection = Field(default_factory=LimitsSection)
    security: SecuritySection = Field(default_factory=SecuritySection)


def load(path: Path | None) -> Config:
    """Reads the file; without one, everything has its default. Raises ConfigError."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        name = str(path) if path else "defaults"
        raise ConfigError("\n".join(f"{name}: {_line(e)}" for e in error.errors())) from None


def _line(error: Any) -> str:
    """One of pydantic's findings as `[section] key: what is wrong`."""
    where = _place(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(error['loc'])}"
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"


def _place(location: Sequence[str | int]) -> str:
    """As it stands in the file: `[queue.quotas.nlp] devices`, `[paths] data_roots[0]`."""
    tables = [str(part) for part in location if isinstance(part, str) and part != _KEY]
    indexes = "".join(f"[{part}]" for part in location if isinstance(part, int))
    if len(tables) == 1:
        return f"[{tables[0]}]"
    return f"[{'.'.join(tables[:-1])}] {tables[-1]}{indexes}"


def _nearest(location: Sequence[str | int]) -> str:
    known: Any = Config
    for part in location[:-1]:
        of_mapping = get_args(known)
        known = of_mapping[1] if of_mapping else known.model_fields[str(part)].annotation
    near = difflib.get_close_matches(str(location[-1]), known.model_fields, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known.model_fields)}"
