"""Files that a job's processes may have written, and files they may read: opened so that neither side fools the other.

Paths are walked from a root folder, one component at a time, without following a symbolic link; reads are bounded and
of regular files only; writes are there whole or not at all. Nothing here may judge a path by its text alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ftd.errors import DiskFull

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe somebody left there would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_folder(root: Path, relative: str = ".") -> int:
    """Descriptor of a folder at or below `root`. Raises OSError, also for a link on the way."""
    folder = os.open(root, _FOLDER)
    for part in PurePosixPath(relative).parts:
        if part in ("..", "/"):
            os.close(folder)
            raise NotADirectoryError(f"{relative!r} leads out of its folder")
        try:
            below = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def open_file(folder: int, name: str) -> int:
    """Descriptor of the regular file `name` right in `folder`. Raises OSError."""
    file = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{name} is not a regular file")
    return file


def read_file(root: Path, relative: str, limit: int) -> bytes | None:
    """Content of a regular file below `root`; None if there is none, or none of at most `limit` bytes."""
    path = PurePosixPath(relative)
    try:
        folder = open_folder(root, str(path.parent))
        try:
            file = open_file(folder, path.name)
        finally:
            os.close(folder)
    except OSError:
        return None
    with os.fdopen(file, "rb") as content:
        data = content.read(limit + 1)
    return data if len(data) <= limit else None


def write_atomically(path: Path, content: bytes) -> None:
    """Puts `content` at `path` in one move, on disk before it returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable: a rename is on disk only after its folder is."""
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def refusing_full_disk() -> Iterator[None]:
    """Tells a full disk from other errors. Raises DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("the daemon's disk is full; free space below its state directory") from error
        raise
