"""A fake daemon on a socket of its own, and a client of it that does not wait long."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon

from ftclient import Client


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    # Not tmp_path: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory() as folder, FakeDaemon(Path(folder) / "ftd.sock") as running:
        yield running


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.address, patience=5.0) as connected:
        yield connected
