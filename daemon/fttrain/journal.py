"""Writing a journal: a file of protobuf records, each with its checksum, one writer at a time.

A record is `0a <varint length> <message> 15 <crc32, little endian>`: field 1 and field 2 of StreamMetricsResponse, so
that a run of records is a valid stream message. A trainer must never sync it: write(2) survives any kill, and the
keeper sees to the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from google.protobuf.message import Message

# A reader takes anything longer for damage.
LONGEST_RECORD = 1 << 20
_MESSAGE_TAG = 0x0A
_CHECKSUM_TAG = 0x15
_CHECKSUM = struct.Struct("<BI")
_LENGTH_BYTES = 3
# More than the longest record, so that a block always holds a whole one.
_BLOCK = 2 * LONGEST_RECORD
_FENCE_SECONDS = 10.0


class JournalDamaged(Exception):
    """The journal is broken before its last record: nothing may be appended."""


class JournalWriter:
    """Appends records to the file at `path`, made if needed. Cuts what a killed writer left of its last record.

    Raises JournalDamaged, TimeoutError if another process goes on writing it, OSError (for a symbolic link, too).
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _fence(self._file, path.name)
            self.size = _whole_records(self._file, path.name)
            os.ftruncate(self._file, self.size)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, message: Message) -> None:
        """Writes one record, whole or not at all. Raises OSError, e.g. when the disk is full."""
        record = frame(message.SerializeToString())
        written = os.write(self._file, record)
        if written != len(record):
            # A disk that fills up in the middle of a record must not leave half of it before the next.
            os.ftruncate(self._file, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def sync(self) -> None:
        """Puts every record on the disk. Raises OSError."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Ends the writing and lifts the fence."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame(message: bytes) -> bytes:
    """One record. Raises ValueError for a message longer than LONGEST_RECORD."""
    if len(message) > LONGEST_RECORD:
        raise ValueError(f"a journal record has at most {LONGEST_RECORD} bytes, this one {len(message)}")
    head = bytearray((_MESSAGE_TAG,))
    length = len(message)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return b"".join((head, message, _CHECKSUM.pack(_CHECKSUM_TAG, zlib.crc32(message))))


def _fence(file: int, name: str) -> None:
    """Keeps other writers out while we live. A killed writer's children may hold the lock for a moment longer."""
    deadline = time.monotonic() + _FENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process is writing {name}") from None
            time.sleep(0.05)
        else:
            return


def _whole_records(file: int, name: str) -> int:
    """Bytes of the whole records at the start of `file`."""
    size = os.fstat(file).st_size
    end = 0
    while end < size:
        block = os.pread(file, _BLOCK, end)
        last = end + len(block) >= size
        whole, damaged = _walk(block, last)
        end += whole
        if damaged:
            raise JournalDamaged(f"{name} is damaged at byte {end}")
        if last:
            break
    return end


def _walk(data: bytes, last: bool) -> tuple[int, bool]:
    """Bytes of the whole records at the start of `data`, and whether what follows is damage and not just cut off.

    In the `last` block, a last record that is complete but wrong is a torn one: the disk lost a part of it.
    """
    at, size = 0, len(data)
    while at < size:
        start, length = _head(data, at)
        end = start + length + _CHECKSUM.size
        if length < 0 or length > LONGEST_RECORD:
            return at, True
        if not start or end > size:
            return at, False
        body = data[start : start + length]
        if data[end - _CHECKSUM.size : end] != _CHECKSUM.pack(_CHECKSUM_TAG, zlib.crc32(body)):
            return at, not (last and end == size)
        at = end
    return at, False


def _head(data: bytes, at: int) -> tuple[int, int]:
    """Start of the message of the record at `at`, 0 if the data ends before; its length, -1 if there is no record."""
    if data[at] != _MESSAGE_TAG:
        return at, -1
    length = 0
    for shift, byte in enumerate(data[at + 1 : at + 1 + _LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return at + 2 + shift, length
    return (0, 0) if at + 1 + _LENGTH_BYTES > len(data) else (at, -1)
