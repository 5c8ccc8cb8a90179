"""Reads recorded jobs, pods and nodes from .csv and .csv.gz; nothing here simulates.

Every reader checks what it reads: `BadTrace` names the file, the row, the column and what would be accepted. Times are
seconds from the first submission, sizes are bytes, cards are counted in thousandths where they can be shared.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

MILLI = 1000
MIB = 2**20
# From day 115 on, nearly all pods of the openb trace arrive; before, the cluster is still being filled.
OPENB_FROM = 115 * 86_400
# A step takes so much longer on the cluster than it was profiled alone.
MURI_STEP = 1.015
# Seconds to start or move a job on 1, 2, 4, 8, 16 or 32 devices; any other model takes 10.
MURI_OVERHEAD: Mapping[str, tuple[int, ...]] = {
    "vgg16": (7, 7, 8, 9, 9, 10),
    "vgg19": (7, 7, 8, 9, 10, 10),
    "resnet18": (4, 5, 5, 7, 7, 7),
    "shufflenet_v2_x1_0": (4, 4, 5, 5, 7, 8),
    "bert": (10, 10, 10, 10, 10, 10),
    "gpt2": (10, 10, 10, 10, 10, 10),
    "a2c": (38, 39, 39, 46, 46, 46),
    "dqn": (5, 5, 6, 6, 8, 8),
}
OTHER_OVERHEAD = 10


class BadTrace(Exception):
    """A file that cannot be simulated; the message says where and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Job:
    """A recorded job: `steps` of `step_seconds` on `cards` devices, of each `milli` thousandths.

    `overhead_seconds` are lost whenever it starts.
    """

    id: str
    submit: float
    cards: int
    steps: float
    step_seconds: float
    overhead_seconds: float = 0.0
    milli: int = MILLI

    @property
    def run_seconds(self) -> float:
        """How long it runs if nothing stops it, without overhead."""
        return self.steps * self.step_seconds

    @property
    def size(self) -> float:
        """The devices that it takes."""
        return self.cards * self.milli / MILLI


@dataclass(frozen=True, slots=True)
class Pod:
    """What a pod asks of its node: host resources, and `cards` devices of `milli` thousandths each."""

    cpu_milli: int
    memory_bytes: int
    cards: int
    milli: int
    models: frozenset[str] = frozenset()

    @property
    def total_milli(self) -> int:
        """Thousandths of devices over the whole pod."""
        return self.cards * self.milli


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has, empty."""

    id: str
    cpu_milli: int
    memory_bytes: int
    cards: int
    model: str


def format_of(path: Path) -> str:
    """Which of the formats the columns of a trace are of."""
    columns = next(_rows(path), _Row(f"{path}", {})).values.keys()
    for kind, column in (("muri", "iterations"), ("openb", "creation_time"), ("jobs", "run_s")):
        if column in columns:
            return kind
    raise BadTrace(
        f"{path}: a trace needs a row and one of the columns iterations (muri), creation_time (openb), run_s (jobs)"
    )


def read_jobs(path: Path, kind: str) -> list[Job]:
    """The jobs of a trace in the order of their submission, ties as in the file. `kind` is muri, openb or jobs."""
    readers: Mapping[str, Callable[[_Row], Job | None]] = {"muri": _muri, "openb": _openb, "jobs": _job}
    found = [job for row in _rows(path) if (job := readers[kind](row)) is not None]
    if not found:
        raise BadTrace(f"{path}: no job to simulate")
    return sorted(found, key=lambda job: job.submit)


def read_pods(path: Path) -> list[Pod]:
    """The pods of an openb list, in its order; at least one asks for a card."""
    pods = [_pod(row) for row in _rows(path)]
    if not any(pod.cards for pod in pods):
        raise BadTrace(f"{path}: a pod with num_gpu from 1 on is needed")
    return pods


def read_nodes(path: Path) -> list[Node]:
    """The nodes of an openb list, in its order; at least one has a card."""
    nodes = [
        Node(
            id=row.text("sn"),
            cpu_milli=row.integer("cpu_milli"),
            memory_bytes=row.integer("memory_mib") * MIB,
            cards=row.integer("gpu"),
            model=row.text("model"),
        )
        for row in _rows(path)
    ]
    if not any(node.cards for node in nodes):
        raise BadTrace(f"{path}: a node with gpu from 1 on is needed")
    if len({node.id for node in nodes}) < len(nodes):
        raise BadTrace(f"{path}: an sn of its own for each node is needed")
    return nodes


@dataclass(frozen=True, slots=True)
class _Row:
    """One row with its place in the file, for the errors."""

    where: str
    values: Mapping[str, str]

    def text(self, column: str, default: str | None = None) -> str:
        value = self.values.get(column, default)
        if value is None:
            raise BadTrace(f"{self.where}: no column {column!r}; there are {', '.join(map(repr, self.values))}")
        return value

    def number(self, column: str, least: float = 0, default: str | None = None) -> float:
        text = self.text(column, default)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= least):
            raise BadTrace(f"{self.where}: {column} is {text!r}; a number from {least:g} on is needed")
        return value

    def integer(self, column: str, least: int = 0, most: int | None = None, default: str | None = None) -> int:
        text = self.text(column, default)
        span = f"a whole number from {least}" + (" on" if most is None else f" to {most}")
        try:
            value = int(text)
        except ValueError:
            raise BadTrace(f"{self.where}: {column} is {text!r}; {span} is needed") from None
        if value < least or (most is not None and value > most):
            raise BadTrace(f"{self.where}: {column} is {value}; {span} is needed")
        return value


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with _opened(path) as file:
            reader = csv.DictReader(file)
            for values in reader:
                where = f"{path}, line {reader.line_num}"
                if None in values or None in values.values():
                    raise BadTrace(f"{where}: as many values as the first line has columns are needed")
                yield _Row(where, values)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadTrace(f"{path}: a readable .csv or .csv.gz file is needed: {error}") from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _muri(row: _Row) -> Job:
    cards = row.integer("num_gpu", least=1)
    overheads = MURI_OVERHEAD.get(row.text("model_name"))
    # The table has 1, 2, 4 ... devices; a gang between two of them costs as the larger one.
    overhead = overheads[min((cards - 1).bit_length(), len(overheads) - 1)] if overheads else OTHER_OVERHEAD
    return Job(
        id=row.text("job_id"),
        submit=row.number("submit_time") / 1000,
        cards=cards,
        steps=row.integer("iterations", least=1),
        step_seconds=row.number("iteration_time") * MURI_STEP / 1000,
        overhead_seconds=overhead,
    )


def _openb(row: _Row) -> Job | None:
    """A pod as a job of the queue, or None: it needs no device, came early, or never ran."""
    created, deleted = row.number("creation_time"), row.number("deletion_time")
    pod = _pod(row)
    started = row.number("scheduled_time") if row.text("scheduled_time") else created
    if not pod.cards or created < OPENB_FROM or deleted <= started:
        return None
    return Job(row.text("name"), created - OPENB_FROM, pod.cards, deleted - started, 1.0, milli=pod.milli)


def _job(row: _Row) -> Job:
    return Job(
        id=row.text("job"),
        submit=row.number("submit_s"),
        cards=row.integer("gpus", least=1),
        steps=row.number("run_s"),
        step_seconds=1.0,
        overhead_seconds=row.number("overhead_s", default="0"),
        milli=row.integer("gpu_milli", least=1, most=MILLI, default=str(MILLI)),
    )


def _pod(row: _Row) -> Pod:
    cards = row.integer("num_gpu")
    milli = row.integer("gpu_milli", least=1, most=MILLI) if cards else 0
    if cards > 1 and milli != MILLI:
        raise BadTrace(f"{row.where}: gpu_milli is {milli}; {MILLI} is needed where num_gpu is more than 1")
    models = frozenset(row.text("gpu_spec", default="").split("|")) - {""}
    return Pod(row.integer("cpu_milli"), row.integer("memory_mib") * MIB, cards, milli, models)
