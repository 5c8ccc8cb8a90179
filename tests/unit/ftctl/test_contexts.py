"""Daemons by name: made, used, changed and forgotten, and whose daemon is asked."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support import queue

from ftclient import contexts
from ftctl.app import app
from ftctl.commands.contexts import _SHOWN

Matches = Callable[..., None]
ADD = ["context", "add", "gpu1", "gpu1.example.com:7447", "--ca", "ca.pem"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "FTD_CONTEXT", "FTD_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """One command without an address."""

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app(list(args), prog_name="ftctl")
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return call


Call = Callable[..., tuple[int, str, str]]


def test_the_first_one_is_used(run: Call) -> None:
    run(*ADD)
    run("context", "add", "gpu2", "/run/finetuned/ftd.sock")
    known = contexts.load()
    assert known.current == "gpu1"
    assert known.by_name["gpu1"].ca == str(Path("ca.pem").absolute())


def test_they_are_listed(matches: Matches, run: Call) -> None:
    matches("context-none", "context", "list")
    run("context", "add", "gpu1", "gpu1.example.com:7447", "--tls")
    run("context", "add", "here", "unix:/run/finetuned/ftd.sock")
    matches("context-use", "context", "use", "here")
    matches("context-list", "context", "list")
    matches("context-remove", "context", "remove", "gpu1")
    matches("context-use-unknown", "context", "use", "gpu1")


def test_settings_are_shown_and_changed(matches: Matches, run: Call) -> None:
    matches("config-no-context", "config", "get")
    run("context", "add", "gpu1", "gpu1.example.com:7447")
    run("config", "set", "tls", "true")
    run("config", "set", "address", "10.0.0.7:7447")
    matches("config-get", "config", "get")
    matches("config-get-one", "config", "get", "address")
    matches("config-set-unknown", "config", "set", "token", "x")
    matches("config-set-tls", "config", "set", "tls", "maybe")
    matches("context-add-cert", "context", "add", "gpu1", "10.0.0.7:7447", "--cert", "/etc/me.pem")


def test_every_setting_but_the_token_is_shown() -> None:
    assert {field.name for field in fields(contexts.Context)} == {*_SHOWN, "token"}


@pytest.fixture
def named(daemon: FakeDaemon, run: Call) -> FakeDaemon:
    daemon.host = queue.host()
    run("context", "add", "here", daemon.address)
    return daemon


def test_the_context_says_which_daemon_is_asked(named: FakeDaemon, run: Call) -> None:
    assert run("get", "-q")[0] == 0
    assert named.requests


def test_another_may_be_named(named: FakeDaemon, run: Call, tmp_path: Path) -> None:
    run("context", "add", "gone", f"unix:{tmp_path}/none")
    assert run("--context", "gone", "get")[0] == 5
    code, _, err = run("--context", "nowhere", "get")
    assert (code, "there is: gone, here" in err) == (1, True)


def test_an_address_outranks_it(named: FakeDaemon, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTD_ADDRESS", "unix:/none")
    assert run("get")[0] == 5
    assert run("--context", "here", "get")[0] == 0


def test_a_token_is_kept_once_the_daemon_took_it(named: FakeDaemon, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert run("login") == (0, "logged in to here\n", "")
    assert contexts.load().by_name["here"].token == "s3cret"  # noqa: S105 - the one given
    assert stat.S_IMODE(contexts.file().stat().st_mode) == 0o600
    assert "s3cret" not in run("config", "get")[1] + run("context", "list")[1]


@pytest.mark.parametrize("command", [["context", "add", "here"], ["config", "set", "address"]])
def test_a_token_goes_to_no_other_address(run: Call, command: list[str]) -> None:
    contexts.save(contexts.Contexts().adding("here", contexts.Context("localhost:1", token="s3cret")))  # noqa: S106
    run(*command, "localhost:2")
    assert contexts.load().by_name["here"] == contexts.Context("localhost:2")


def test_a_token_is_not_kept_if_nobody_took_it(named: FakeDaemon, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    named.stop()
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert run("login")[0] == 5
    assert not contexts.load().by_name["here"].token


def test_no_token(named: FakeDaemon, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = run("login")
    assert (code, "no token was given" in err) == (1, True)
