"""A terminal in memory: runs a program on it, types, resizes, and tells what stands on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import pyte

# Seconds after which a program that does not come to it is taken for stuck.
PATIENCE = 30.0
# Seconds without output after which a screen is drawn.
QUIET = 0.5


class Terminal:
    """`ftctl` with these arguments on a terminal of its own, until the block is left."""

    def __init__(self, *args: str, width: int = 80, height: int = 24, environ: Mapping[str, str]) -> None:
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        # All that was written, escape sequences included.
        self.written = ""
        self._main, sub = pty.openpty()
        self._measure(width, height)
        hidden = ("COLUMNS", "LINES", "NO_COLOR")
        environment = {key: value for key, value in os.environ.items() if key not in hidden} | dict(environ)
        environment["TERM"] = "xterm-256color"
        program = str(Path(sys.executable).with_name("ftctl"))
        self._process = subprocess.Popen(
            [program, *args], stdin=sub, stdout=sub, stderr=sub, env=environment, start_new_session=True
        )
        os.close(sub)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without the spaces at the ends of lines."""
        return [line.rstrip() for line in self._screen.display]

    def type(self, keys: str) -> None:
        """As if somebody typed it."""
        os.write(self._main, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def resize(self, width: int, height: int) -> None:
        """As if somebody drew the window larger or smaller."""
        self._screen.resize(height, width)
        self._measure(width, height)
        self._process.send_signal(signal.SIGWINCH)

    def until(self, shown: Callable[[list[str]], bool]) -> list[str]:
        """The screen once it is so. Fails with the screen as it is if it never comes to it."""
        deadline = time.monotonic() + PATIENCE
        while not shown(self.lines):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            if select.select([self._main], [], [], 0.1)[0]:
                self._feed()
        return self.lines

    def settled(self) -> list[str]:
        """The screen once nothing more has come for a while: what is drawn in pieces is whole then."""
        while select.select([self._main], [], [], QUIET)[0]:
            self._feed()
        return self.lines

    def ended(self) -> int:
        """The exit code, once the program has ended; the screen has its last words."""
        # Reading fails when the last process that holds the terminal is gone.
        with contextlib.suppress(OSError):
            while self._feed():
                pass
        return self._process.wait(timeout=PATIENCE)

    def _feed(self) -> bool:
        chunk = os.read(self._main, 65536)
        self._stream.feed(chunk)
        self.written += chunk.decode(errors="replace")
        return bool(chunk)

    def _measure(self, width: int, height: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
