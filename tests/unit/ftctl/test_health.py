"""What `doctor` and `version` say of this program, the daemon and its host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support import queue

from ftclient.skew import skew
from ftctl.commands import health

Matches = Callable[..., None]


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon) -> None:
    monkeypatch.setattr("sys.version", "3.11.0 (fixed)")
    daemon.host, daemon.queued = queue.host(), queue.queued()


def test_a_host_with_troubles(daemon: FakeDaemon, matches: Matches) -> None:
    daemon.host.state_free_bytes = 1_000_000_000
    daemon.host.version = "1.4.2"
    matches("doctor-troubles", "doctor")


def test_a_host_without_devices(daemon: FakeDaemon, matches: Matches) -> None:
    del daemon.host.devices[:]
    daemon.host.inventory = "no NVIDIA driver"
    matches("doctor-no-device", "doctor")


def test_no_daemon(daemon: FakeDaemon, matches: Matches) -> None:
    daemon.stop()
    matches("doctor-no-daemon", "doctor")


def test_both_versions(daemon: FakeDaemon, matches: Matches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "__version__", "1.2.0")
    daemon.host.version = "1.1.3"
    matches("version-daemon", "version", "--daemon")


@pytest.mark.parametrize(
    ("client", "host"), [("1.2.3", "1.2.3"), ("1.2.3", "1.2.9"), ("1.2.3", "unknown"), ("1.10.0", "1.10.0.dev1")]
)
def test_no_word_about_what_does_not_matter(client: str, host: str) -> None:
    assert skew(client, host) == ""


@pytest.mark.parametrize(
    ("client", "host", "older"),
    [("1.2.0", "1.3.0", "this program"), ("1.9.0", "1.10.0", "this program"), ("2.0.0", "1.9.0", "the daemon")],
)
def test_who_is_older(client: str, host: str, older: str) -> None:
    assert skew(client, host).startswith(f"{older} (")
