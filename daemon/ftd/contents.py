"""Contents of uploaded data sets on disk: parts that grow, and files that never change any more.

    datasets/SHA256/FILE       contents; a further name of the file is a further link
    datasets/.parts/SHA256     what has come of them so far

Contents get their place in one move, after every byte was read again and compared. Everything here blocks; call it in a
thread. It must never be told a digest or a file name that was not checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ftd.errors import ChecksumMismatch, DiskFull, UploadIncomplete, UploadOffset
from ftd.files import refusing_full_disk, sync_folder

# An upload that nobody went on with for so long is removed.
KEPT_SECONDS = 7 * 86400.0
_PARTS = ".parts"
_GONE = ".gone-"


@dataclass(frozen=True, slots=True)
class Contents:
    """All contents, below one folder of the daemon's own, which is given without links."""

    root: Path

    def path(self, sha256: str, file: str) -> str:
        """Where contents lie under this name."""
        return str(self.root / sha256 / file)

    def clear(self, known: Collection[str], now: float) -> None:
        """Makes the folder; removes contents that are not known and parts that are too old. Raises OSError."""
        self._parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self.root.iterdir():
            if folder.name not in known and folder != self._parts:
                shutil.rmtree(folder)
        self.expire(now)

    def expire(self, now: float) -> None:
        """Removes parts that are too old."""
        for part in self._parts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < now - KEPT_SECONDS:
                    part.unlink()

    def received(self, sha256: str) -> int:
        """How many bytes of contents have come that are not whole yet."""
        return _size(self._parts / sha256)

    def parts(self) -> dict[str, int]:
        """SHA-256 -> bytes of everything that is not whole yet."""
        return {part.name: _size(part) for part in self._parts.iterdir()}

    def open_part(self, sha256: str, offset: int, more: int) -> int:
        """Descriptor of a part that is cut at `offset`; `more` bytes are to come. Raises UploadOffset, DiskFull."""
        have = self.received(sha256)
        if offset > have:
            raise UploadOffset(offset, have)
        disk = os.statvfs(self._parts)
        if more > disk.f_bavail * disk.f_frsize:
            raise DiskFull("the daemon's disk has no room for this data set; free space below its state directory")
        with refusing_full_disk():
            part = os.open(self._parts / sha256, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(part, offset)
        return part

    def keep(self, part: int, sha256: str, file: str) -> None:
        """Gives a part that is whole its place. Raises ChecksumMismatch, DiskFull; then nothing of it is kept."""
        if (found := _digest(part)) != sha256:
            (self._parts / sha256).unlink(missing_ok=True)
            raise ChecksumMismatch(sha256, found)
        with refusing_full_disk():
            os.fchmod(part, 0o400)
            os.fsync(part)
            folder = self.root / sha256
            folder.mkdir(mode=0o700, exist_ok=True)
            (self._parts / sha256).replace(folder / file)
            sync_folder(folder)
            sync_folder(self.root)

    def link(self, sha256: str, file: str, size: int) -> None:
        """Gives contents that are here another file name. Raises UploadIncomplete if they are gone, DiskFull."""
        folder = self.root / sha256
        before = next(iter(sorted(folder.iterdir())), None) if folder.is_dir() else None
        if before is None:
            raise UploadIncomplete(0, size)
        with refusing_full_disk(), contextlib.suppress(FileExistsError):
            os.link(before, folder / file)
            sync_folder(folder)

    def remove(self, sha256: str) -> None:
        """Forgets contents. No error if there are none. Raises OSError."""
        gone = self.root / f"{_GONE}{sha256}"
        with contextlib.suppress(FileNotFoundError):
            (self.root / sha256).rename(gone)
            shutil.rmtree(gone)

    @property
    def _parts(self) -> Path:
        return self.root / _PARTS


def write(part: int, rows: bytes, at: int) -> None:
    """Puts rows at their place. Raises DiskFull."""
    view = memoryview(rows)
    with refusing_full_disk():
        while view:
            written = os.pwrite(part, view, at)
            view, at = view[written:], at + written


def _digest(part: int) -> str:
    with os.fdopen(os.dup(part), "rb") as whole:
        whole.seek(0)
        return hashlib.file_digest(whole, "sha256").hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
