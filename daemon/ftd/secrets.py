"""The host's secrets: files in one folder, named by a spec and never shown. A spec holds names only.

A secret's value is read when a process is started with it. It is never logged, stored, or part of an error.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ftd.files import open_file, open_folder

_LONGEST = 8192
_OTHERS = stat.S_IRWXO


class SecretRefused(Exception):
    """Why a secret cannot be used and what would be accepted; names it, never its value."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The folder of the secrets; None: this host has none."""

    folder: Path | None = None

    def read(self, name: str) -> str:
        """The value of a secret, without white space around it. Raises SecretRefused."""
        if self.folder is None:
            raise SecretRefused("names a secret, but this host has none: [security] secrets is not set")
        try:
            folder = open_folder(self.folder)
            try:
                file = open_file(folder, name)
            finally:
                os.close(folder)
        except OSError:
            raise SecretRefused("names a secret that this host does not have; accepted is one of its secrets") from None
        with os.fdopen(file, "rb") as opened:
            if os.fstat(opened.fileno()).st_mode & _OTHERS:
                raise SecretRefused("names a secret that everybody on the host can read; take that away: chmod o= FILE")
            value = opened.read(_LONGEST + 1)
        if len(value) > _LONGEST or not value.strip():
            raise SecretRefused(f"names a secret that is empty or has over {_LONGEST} bytes")
        return value.decode("utf-8", errors="replace").strip()
