"""Stands between a client and the daemon, and cuts connections in the middle of an answer.

    with Cutter(daemon.socket, [0, 90]) as cutter:   the first connection after 0 bytes of answers, the second
        Client(cutter.address)                       after 90, any other never

Within an answer a cut loses the answer, not the question.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType

_NUMBERS = count()


class Cutter:
    """A unix socket of its own whose connections go on to another one."""

    def __init__(self, target: Path, cuts: Sequence[int]) -> None:
        self._target = target
        self._cuts = iter(cuts)
        self._path = Path(f"/tmp/ftd-cutter-{os.getpid()}-{next(_NUMBERS)}.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        # Connections that were cut.
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"unix:{self._path}"

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for each in (self._listener, *self._open):
            _end(each)
        self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(str(self._target))
            self._open += [client, daemon]
            most = next(self._cuts, None)
            threading.Thread(target=self._relay, args=(client, daemon, None), daemon=True).start()
            threading.Thread(target=self._relay, args=(daemon, client, most), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        """All bytes, or so many and then the end of the connection to the client."""
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if most is not None and passed + len(data) > most:
                    sink.sendall(data[: most - passed])
                    self.cut += 1
                    break
                sink.sendall(data)
                passed += len(data)
        _end(sink)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
