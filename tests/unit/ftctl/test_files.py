"""`ftctl data list`, `artifacts` and `checkpoints`: what they print, whole. Integration tests move the files."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256

import pytest
from tests.fakes.daemon import FakeDaemon

from finetuned.v1 import artifact_service_pb2, uploaded_data_pb2

Matches = Callable[..., None]
# So long ago that the hour does not change while a test runs.
DAYS = 3 * 86400 + 1800


@pytest.fixture
def stored(daemon: FakeDaemon) -> FakeDaemon:
    """Two data sets, and a job with an adapter and two checkpoints."""
    for name, size, jobs in (("support-v3", 41_943_040, 2), ("wiki", 900, 0)):
        made = uploaded_data_pb2.Dataset(
            name=name, sha256=sha256(name.encode()).hexdigest(), bytes=size, file=f"{name}.jsonl", jobs=jobs
        )
        made.create_time.seconds = int(time.time()) - DAYS
        daemon.datasets.append(made)
    for name, kind, step in (("output", 1, 300), ("checkpoint-300", 3, 300), ("checkpoint-200", 3, 200)):
        artifact = artifact_service_pb2.Artifact(kind=kind, name=name, path=f"/runs/k7m2/{name}", step=step)  # type: ignore[arg-type]
        artifact.files.add(path="adapter_model.safetensors", bytes=9_000_000, sha256="0" * 64)
        artifact.bytes = 9_000_000
        daemon.artifacts.append(artifact)
    return daemon


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("data-list", ["data", "list"]),
        ("data-list-name", ["data", "list", "-o", "name"]),
        ("artifacts", ["artifacts", "k7m2"]),
        ("artifacts-jsonl", ["artifacts", "k7m2", "-o", "jsonl"]),
        ("artifacts-unknown", ["artifacts", "k7m2", "--download", "out", "--name", "checkpoint-9"]),
        ("checkpoints", ["checkpoints", "k7m2"]),
        ("checkpoints-name", ["checkpoints", "k7m2", "-o", "name"]),
        ("data-upload-none", ["data", "upload", "none.jsonl"]),
    ],
)
def test_what_is_shown(stored: FakeDaemon, matches: Matches, name: str, args: list[str]) -> None:
    matches(name, *args)
