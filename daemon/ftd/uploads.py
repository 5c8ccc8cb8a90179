"""Files of rows that clients send, from the first byte to a data set with a name.

One upload of the same contents goes on at a time, and contents come, get names and go one after the other. Nothing here
believes a client: neither a size, nor a digest, nor that it comes back. What lies where is `ftd.contents`' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from ftd.contents import Contents, write
from ftd.datasets import Data
from ftd.errors import DatasetExists, DatasetNotFound, InvalidRequest, TooMuch, UploadIncomplete, UploadTakenOver
from ftd.limits import DATA_ENDINGS, DATA_FILE, NAME, SHA256, ending
from ftd.sources import Sent
from ftd.uploaded import Dataset, Datasets

T = TypeVar("T")
# Of rows in one message.
MOST_AT_ONCE = 2 * 2**20
_FILE = re.compile(r"[^./\0-\x1f\x7f][^/\0-\x1f\x7f]{0,199}")
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """What an upload says of itself, see UploadHeader."""

    name: str
    file: str
    sha256: str
    bytes: int
    offset: int


class Uploads:
    """Takes files of at most `file_bytes`, and `all_bytes` together; what is under way counts with its whole size."""

    def __init__(
        self,
        datasets: Datasets,
        kept: Contents,
        file_bytes: int,
        all_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.datasets = datasets
        self._contents = kept
        self._file_bytes = file_bytes
        self._all_bytes = all_bytes
        self._clock = clock
        # What is sent just now, by contents: who takes it, and how large it will be.
        self._receiving: dict[str, tuple[asyncio.Task[Dataset], int]] = {}
        # Contents come, get names and go one after the other.
        self._naming = asyncio.Lock()

    async def clear(self) -> None:
        """Removes contents without a name, which a crash left, and uploads that nobody went on with."""
        await asyncio.to_thread(self._contents.clear, frozenset(await self.datasets.contents()), self._clock())

    async def sent(self, data: Data) -> Mapping[str, Sent]:
        """The data sets that sources name, by that name; without those that there are not."""
        found = {}
        for text in {source.dataset for source in (*data.train, *data.eval) if source.dataset}:
            try:
                dataset = await self.datasets.find(text)
            except DatasetNotFound:
                continue
            found[text] = Sent(dataset.sha256, self._contents.path(dataset.sha256, dataset.file))
        return found

    async def offset(self, sha256: str) -> int:
        """How much there is of a file. Raises InvalidRequest."""
        _check_digest("sha256", sha256)
        try:
            return (await self.datasets.find(sha256)).bytes
        except DatasetNotFound:
            return await asyncio.to_thread(self._contents.received, sha256)

    async def receive(self, header: Header, rows: AsyncIterator[bytes]) -> Dataset:
        """Takes what comes after the offset, and gives the whole its name.

        Raises InvalidRequest, TooMuch, DatasetExists, UploadOffset, UploadIncomplete, UploadTakenOver,
        ChecksumMismatch, DiskFull.
        """
        _check(header)
        if not await self._is_missing(header):
            return await self._name(header, partial(self._contents.link, header.sha256, header.file, header.bytes))
        key, before = header.sha256, self._receiving.get(header.sha256)
        taking = asyncio.ensure_future(self._take(header, rows, before[0] if before else None))
        mine = self._receiving[key] = taking, header.bytes
        try:
            await asyncio.wait([taking])
        finally:
            # Also when the client has gone away: what has come is kept, and whoever comes back finds nobody at it.
            taking.cancel()
            await asyncio.wait([taking])
            if self._receiving.get(key) is mine:
                del self._receiving[key]
        if taking.cancelled():
            raise UploadTakenOver
        return taking.result()

    async def delete(self, name: str) -> None:
        """Takes a name away, and the contents with the last one. Raises DatasetNotFound, DatasetNeeded."""
        async with self._naming:
            last = await self.datasets.remove(name)
            if last is not None:
                await asyncio.to_thread(self._contents.remove, last.sha256)
        log.info("data set deleted", name=name)

    async def _is_missing(self, header: Header) -> bool:
        """Whether the contents have to come. Raises DatasetExists, InvalidRequest before anything is sent in vain."""
        known = [each for text in (header.name, header.sha256) if (each := await self._found(text))]
        if any(each.name == header.name and each.sha256 != header.sha256 for each in known):
            raise DatasetExists(header.name)
        if known and known[0].bytes != header.bytes:
            raise InvalidRequest(f"header.bytes is {header.bytes}, but these contents have {known[0].bytes}")
        return not known

    async def _found(self, text: str) -> Dataset | None:
        try:
            return await self.datasets.find(text)
        except DatasetNotFound:
            return None

    async def _take(self, header: Header, rows: AsyncIterator[bytes], before: asyncio.Task[Dataset] | None) -> Dataset:
        """The upload itself, once the one before of the same contents has let go."""
        if before is not None:
            before.cancel()
            await asyncio.wait([before])
        await self._check_room(header)
        more = header.bytes - header.offset
        part = await _whole(asyncio.to_thread(self._contents.open_part, header.sha256, header.offset, more))
        try:
            at = header.offset
            async for some in rows:
                _check_rows(header, at, some)
                await _whole(asyncio.to_thread(write, part, some, at))
                at += len(some)
            if at < header.bytes:
                raise UploadIncomplete(at, header.bytes)
            return await _whole(self._name(header, partial(self._contents.keep, part, header.sha256, header.file)))
        finally:
            os.close(part)

    async def _name(self, header: Header, place: Callable[[], None]) -> Dataset:
        """Puts the contents in their place and gives them the name."""
        async with self._naming:
            await asyncio.to_thread(place)
            dataset = Dataset(header.name, header.sha256, header.bytes, header.file, self._clock())
            added = await self.datasets.add(dataset)
        log.info("data set uploaded", name=added.name, bytes=added.bytes)
        return added

    async def _check_room(self, header: Header) -> None:
        """Raises TooMuch if this host does not take so much."""
        if header.bytes > self._file_bytes:
            raise TooMuch(f"the file has {header.bytes} bytes; this host takes files of at most {self._file_bytes}")
        await asyncio.to_thread(self._contents.expire, self._clock())
        coming = await asyncio.to_thread(self._contents.parts)
        coming |= {key: size for key, (_, size) in self._receiving.items()}
        coming.pop(header.sha256, None)
        left = self._all_bytes - sum((await self.datasets.contents()).values()) - sum(coming.values())
        if header.bytes > left:
            raise TooMuch(
                f"the file has {header.bytes} bytes, and this host has {max(0, left)} left for data sets; delete some"
            )


def _check(header: Header) -> None:
    """Raises InvalidRequest if the header cannot be meant."""
    _check_digest("header.sha256", header.sha256)
    if not NAME.test(header.name):
        raise InvalidRequest(f"header.name is {header.name!r}; accepted is {NAME.accepted}")
    if not _FILE.fullmatch(header.file) or ending(header.file) not in DATA_ENDINGS:
        raise InvalidRequest(f"header.file is {header.file!r}; accepted is the name, without folders, of {DATA_FILE}")
    if not 0 <= header.offset <= header.bytes or not header.bytes:
        raise InvalidRequest(
            f"header.offset is {header.offset} and bytes {header.bytes}; accepted are 0 to bytes, over 0"
        )


def _check_digest(field: str, text: str) -> None:
    if not SHA256.test(text):
        raise InvalidRequest(f"{field} is {text!r}; accepted is {SHA256.accepted}")


def _check_rows(header: Header, at: int, rows: bytes) -> None:
    """Raises InvalidRequest for more than was promised."""
    if len(rows) > MOST_AT_ONCE:
        raise InvalidRequest(f"a message has {len(rows)} bytes of data; accepted are at most {MOST_AT_ONCE}")
    if at + len(rows) > header.bytes:
        raise InvalidRequest(f"more than {header.bytes} bytes came; accepted is as much as header.bytes says")


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Work that comes to its end before whoever asked for it is cancelled: a thread cannot be stopped."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
