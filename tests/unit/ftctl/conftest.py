"""Runs `ftctl` against the fake daemon, and compares whole transcripts with the files in golden/.

To write the files anew after a change that is meant: GOLDEN=write pytest tests/unit/ftctl, then read the diff.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from tests.fakes.daemon import FakeDaemon

from ftctl import output
from ftctl.app import app

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Transcript:
    code: int
    out: str
    err: str


Run = Callable[..., Transcript]


@pytest.fixture(autouse=True)
def plain_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One time zone, one size, no colours asked for, no daemon of the machine's own."""
    for name in (
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
        "FTD_ADDRESS",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "25")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    time.tzset()
    # Made at its first use, for the terminal that was there, and widened by what prints for pipes.
    output.console.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    # Not tmp_path: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory() as folder, FakeDaemon(Path(folder) / "ftd.sock") as running:
        yield running


@pytest.fixture
def ftctl(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command in this process; its code and what it printed, with names of this run replaced."""

    def run(*args: str) -> Transcript:
        with pytest.raises(SystemExit) as caught:
            app(["--address", daemon.address, *args], prog_name="ftctl")
        printed = capsys.readouterr()
        out, err = (_settled(part.replace(daemon.address, "SOCKET")) for part in (printed.out, printed.err))
        return Transcript(int(caught.value.code or 0), out, err)

    return run


def _settled(printed: str) -> str:
    """Without what a terminal does not show at the ends of lines, the time of day, and the versions of libraries."""
    printed = re.sub(r"(grpcio|protobuf) \d[\w.]*", r"\1 VERSION", printed)
    return re.sub(r"about \d{4}-\d\d-\d\d \d\d:\d\d", "about WHEN", re.sub(r" +$", "", printed, flags=re.MULTILINE))


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a terminal without colours, so many columns wide."""

    def widen(width: int) -> None:
        terminal = Console(force_terminal=True, color_system=None, width=width, highlight=False)
        monkeypatch.setattr(output, "console", lambda: terminal)

    return widen


@pytest.fixture
def matches(ftctl: Run) -> Callable[..., None]:
    """Runs one command and compares its transcript with golden/NAME.txt."""

    def compare(name: str, *args: str) -> None:
        done = ftctl(*args)
        shown = f"$ ftctl {' '.join(args)}\n--- stdout\n{done.out}--- stderr\n{done.err}--- exit {done.code}\n"
        same_as_golden(name, shown)

    return compare


def same_as_golden(name: str, shown: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(shown)
    assert shown == file.read_text()
