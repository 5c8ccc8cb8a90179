"""Paths that users name, held below the folders the host's owner allows.

A path is never judged by its text: it is opened without effect (O_PATH), the kernel is asked where what was opened
lies, and only then it is opened for reading. So no link, however it moves, leads out of the roots.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["file", "folder"]
_IS: dict[Kind, Callable[[int], bool]] = {"file": stat.S_ISREG, "folder": stat.S_ISDIR}


class PathRefused(Exception):
    """Why a path cannot be used and what would be accepted, in words for who named it."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders below which paths of one sort may lie. Links are followed as long as they stay below."""

    folders: tuple[Path, ...]

    def open(self, path: str, kind: Kind) -> int:
        """Descriptor, for reading, of an existing regular file or folder. Raises PathRefused."""
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            self.check(path)
            raise PathRefused(_why(error, path, kind)) from None
        try:
            opened = Path(f"/proc/self/fd/{handle}")
            self._check_real(str(opened.readlink()))
            if not _IS[kind](os.fstat(handle).st_mode):
                raise PathRefused(f"is not a {kind}; accepted is a {kind}")
            return os.open(opened, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise PathRefused(_why(error, path, kind)) from None
        finally:
            os.close(handle)

    def real(self, path: str, kind: Kind) -> str:
        """Where an existing file or folder that can be read lies, without links. Raises PathRefused."""
        opened = self.open(path, kind)
        try:
            return str(Path(f"/proc/self/fd/{opened}").readlink())
        finally:
            os.close(opened)

    def read(self, path: str, limit: int) -> bytes:
        """Content of a file of at most `limit` bytes. Raises PathRefused."""
        with os.fdopen(self.open(path, "file"), "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise PathRefused(f"has more than {limit} bytes; accepted is a smaller file")
        return content

    def check(self, path: str) -> None:
        """Whether a path that need not exist would lie below a root. Raises PathRefused."""
        self._check_real(os.path.realpath(path))

    def _check_real(self, real: str) -> None:
        if not any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in self.folders):
            allowed = " or ".join(str(folder) for folder in self.folders)
            raise PathRefused(f"is outside the folders this host allows here; accepted is a path below {allowed}")


@dataclass(frozen=True, slots=True)
class PathRoots:
    """The roots of each sort of path in a spec."""

    models: Roots
    data: Roots
    outputs: Roots


def _why(error: OSError, path: str, kind: Kind) -> str:
    match error:
        case FileNotFoundError():
            # In full: a client may have made it absolute.
            return f"is {path}, which does not exist on the daemon's host; accepted is an existing {kind}"
        case PermissionError():
            return f"cannot be read: permission denied; accepted is a {kind} that the daemon's user may read"
        case NotADirectoryError():
            return "leads through something that is not a folder"
        case _:
            return f"cannot be opened: {error.strerror}"
