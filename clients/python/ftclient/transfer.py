"""Files on this side of an upload or a download: what is sent from where on, what has come, and whether it is whole.

A download grows in FILE.part, which is kept when it is cut and gone on with the next time; it becomes FILE only once
its SHA-256 is right. Nothing here talks to the daemon.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from finetuned.v1 import artifact_service_pb2, uploaded_data_pb2
from ftclient.errors import TransferError

# Called with the bytes that are done and the bytes there are in all.
Progress = Callable[[int, int], None]
# In one message.
CHUNK = 2**20
_KINDS = re.compile(r"(\.(json|jsonl|csv|txt|parquet|arrow))?(\.(gz|zst))?$", re.IGNORECASE)


def silent(_done: int, _total: int) -> None:
    """The progress that nobody wants to hear of."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A file to be sent, as it was when this was made."""

    path: Path
    name: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path, name: str | None) -> Sending:
        """Reads the file once. Raises TransferError."""
        with _told(path, "read"), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, name or default_name(path), digest, file.tell())

    def requests(self, offset: int, progress: Progress) -> Iterator[uploaded_data_pb2.UploadDatasetRequest]:
        """The header, then what comes after the offset."""
        header = uploaded_data_pb2.UploadHeader(
            name=self.name, file=self.path.name, sha256=self.sha256, bytes=self.bytes, offset=offset
        )
        yield uploaded_data_pb2.UploadDatasetRequest(header=header)
        with self.path.open("rb") as file:
            file.seek(offset)
            while offset < self.bytes and (data := file.read(min(CHUNK, self.bytes - offset))):
                yield uploaded_data_pb2.UploadDatasetRequest(data=data)
                offset += len(data)
                progress(offset, self.bytes)


class Receiving:
    """A file that comes into a folder: how much is there, and the rest of it. Close it in the end."""

    def __init__(self, folder: Path, name: str) -> None:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise TransferError(f"the daemon names a file {name!r}, which leads out of its folder")
        self.path = folder / relative
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._sha256 = ""
        self._size: int | None = None
        with _told(self._part, "written"):
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("ab", buffering=0)
        self.offset = self._file.tell()

    def close(self) -> None:
        """Keeps what has come."""
        self._file.close()

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self._size is not None and self.offset >= self._size

    def restart(self) -> None:
        """Forgets what came before."""
        self._file.truncate(0)
        self.offset = 0

    def take(self, message: artifact_service_pb2.DownloadArtifactResponse) -> None:
        """Adds what has come. Raises TransferError."""
        if message.HasField("bytes"):
            self._size, self._sha256 = message.bytes, message.sha256
        rest = memoryview(message.data)
        with _told(self._part, "written"):
            while rest:
                written = self._file.write(rest)
                rest, self.offset = rest[written:], self.offset + written

    def finish(self) -> None:
        """Gives the file its name if it is what it should be. Raises TransferError; then nothing of it is kept."""
        with _told(self._part, "written"):
            os.fsync(self._file.fileno())
            if digest_of(self._part) != self._sha256:
                self._part.unlink()
                raise TransferError(
                    f"{self.path.name} came with another checksum than the daemon has",
                    why="nothing of it is kept",
                    advice="run it again; if it stays so, a disk or the network changes what passes through",
                )
            self._part.replace(self.path)


def is_there(path: Path, sha256: str) -> bool:
    """Whether the file has come before. Raises TransferError if another one has its place."""
    if not path.exists():
        return False
    if digest_of(path) == sha256:
        return True
    raise TransferError(f"{path} is there already and is another file", advice="give a folder of its own")


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises TransferError."""
    with _told(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_name(path: Path) -> str:
    """A data set's name from its file's: "My Rows.jsonl.gz" is my-rows."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", _KINDS.sub("", path.name).lower())
    return name.strip("-_.")[:63] or "rows"


@contextmanager
def _told(path: Path, done: Literal["read", "written"]) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space and run it again: it goes on where it was" if full else ""
        raise TransferError(f"{path} cannot be {done}", why=error.strerror or "", advice=advice) from error
