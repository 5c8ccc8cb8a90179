"""Reading journals: runs of whole, verified records as raw bytes.

    reader = JournalReader(path)                  one per file, may be shared by any number of subscribers
    run = await reader.fetch(after_seq, limit)    Run(data, first_seq, count, at_end); empty: nothing there yet

A record is `0a <varint length> <message> 15 <crc32, little endian>`, so `Run.data` is a valid StreamMetricsResponse as
it is. `seq` is the record's number from 1. The reader must never return a record that is torn or wrong, and never block
the event loop for long.
"""

from __future__ import annotations

import asyncio
import bisect
import os
import stat
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from ftd.errors import FtdError

# What the writer never exceeds; anything longer is damage.
LONGEST_RECORD = 1 << 20
_MESSAGE_TAG = 0x0A
_CHECKSUM_TAG = 0x15
_CHECKSUM = struct.Struct("<BI")
_LENGTH_BYTES = 3
# More than the longest record, so that a block always holds a whole one.
_BLOCK = 2 * LONGEST_RECORD
# Reads up to this size, from a place that is known, are done at once: a thread costs more.
_AT_ONCE = 1 << 16
# Records between two places the reader remembers for good, and how many ends of reads it remembers besides.
_STRIDE = 256
_RECENT = 64


class JournalCorrupt(FtdError):
    """The journal is damaged before its last record, so nothing after that can be trusted."""

    code = "DATA_LOSS"
    reason = "JOURNAL_CORRUPT"


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records: their framed bytes, the seq of the first, how many; and whether there were no more."""

    data: bytes
    first_seq: int
    count: int
    at_end: bool

    @property
    def last_seq(self) -> int:
        """The last record's seq; of the one before `first_seq` if the run is empty."""
        return self.first_seq + self.count - 1


class JournalReader:
    """Reads one journal, which need not exist yet.

    The place of every 256th record is remembered when it is passed, and so is where the last reads ended: following a
    journal costs no search. Holds no file open, so there is nothing to close and a deleted job's journal just ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # seq -> offset of the byte after that record; `_strides` holds the seqs of `_places` in order.
        self._strides = [0]
        self._places = {0: 0}
        self._recent: dict[int, int] = {}

    async def fetch(self, after_seq: int, limit: int) -> Run:
        """As `read`, in a thread unless it is a short read at a place that is known."""
        offset = self._recent.get(after_seq)
        if offset is not None and self._size() - offset <= _AT_ONCE:
            return self.read(after_seq, limit)
        return await asyncio.to_thread(self.read, after_seq, limit)

    def read(self, after_seq: int, limit: int) -> Run:
        """Up to `limit` records after `after_seq`, fewer where they are long; none if there are none yet. Blocks.

        Raises JournalCorrupt when the record after `after_seq` is damaged, or one before it.
        """
        empty = Run(b"", after_seq + 1, 0, at_end=True)
        file = self._open()
        if file is None:
            return empty
        try:
            offset = self._find(file, after_seq)
            if offset is None:
                return empty
            run = self._records(file, after_seq, offset, limit)
        finally:
            os.close(file)
        self._remember(run.last_seq, offset + len(run.data))
        return run

    async def count(self) -> int:
        """Number of records now."""
        return await asyncio.to_thread(self._count)

    def _count(self) -> int:
        seq = self._strides[-1]
        while count := self.read(seq, _STRIDE).count:
            seq += count
        return seq

    def _size(self) -> int:
        try:
            return self._path.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def _open(self) -> int | None:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalCorrupt(f"{self._path.name} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise JournalCorrupt(f"{self._path.name} is not a regular file")
        return file

    def _find(self, file: int, after_seq: int) -> int | None:
        """Offset of the record after `after_seq`; None if there are not so many."""
        if after_seq in self._recent:
            return self._recent[after_seq]
        seq = self._strides[bisect.bisect_right(self._strides, after_seq) - 1]
        offset = self._places[seq]
        while seq < after_seq:
            step = min(after_seq - seq, _STRIDE - seq % _STRIDE)
            run = self._records(file, seq, offset, step)
            if not run.count:
                return None
            seq, offset = run.last_seq, offset + len(run.data)
            self._remember(seq, offset)
        return offset

    def _records(self, file: int, seq: int, offset: int, limit: int) -> Run:
        for size in (_AT_ONCE, _BLOCK):
            block = os.pread(file, size, offset)
            last = offset + len(block) >= os.fstat(file).st_size
            end, count, damaged = _walk(block, last, limit)
            if damaged and not count:
                raise JournalCorrupt(f"{self._path.name} is damaged at record {seq + 1}, byte {offset}")
            if count or last:
                break
        # What is left of the last block is torn, unless it was the limit that ended the run.
        return Run(block[:end], seq + 1, count, at_end=last and not damaged and (count < limit or end == len(block)))

    def _remember(self, seq: int, offset: int) -> None:
        with self._lock:
            self._recent.pop(seq, None)
            self._recent[seq] = offset
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
            if seq % _STRIDE == 0 and seq > self._strides[-1]:
                self._places[seq] = offset
                self._strides.append(seq)


def _walk(data: bytes, last: bool, limit: int) -> tuple[int, int, bool]:
    """The first `limit` whole records of `data`: their bytes, their number, and whether what follows is damage.

    In the `last` block, a last record that is complete but wrong is a torn one: the disk lost a part of it.
    """
    at, count, size = 0, 0, len(data)
    while at < size and count < limit:
        start, length = _head(data, at)
        end = start + length + _CHECKSUM.size
        if length < 0 or length > LONGEST_RECORD:
            return at, count, True
        if not start or end > size:
            break
        body = data[start : start + length]
        if data[end - _CHECKSUM.size : end] != _CHECKSUM.pack(_CHECKSUM_TAG, zlib.crc32(body)):
            return at, count, not (last and end == size)
        at, count = end, count + 1
    return at, count, False


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
