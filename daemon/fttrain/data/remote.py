"""Fetches a file of rows from a URL, whole, before any of it is read, with fsspec.

The daemon has checked that the host allows the URL. What comes is bounded, and so is whom it may come from: a server
that sends elsewhere cannot make this host ask what only this host can reach. It must never send a credential.
"""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fttrain.data.problems import refused

# Without asking who we are: what is not public is none of a spec's business.
_ANONYMOUS: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}}
# Seconds without a connection, or without a byte on one.
_PATIENCE = 60.0


@contextmanager
def folder_of(root: Path, job_id: str) -> Iterator[Path]:
    """Where a job's files are fetched to; gone when its rows are read, as the cache keeps the rows."""
    folder = root / f".fetched.{job_id}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch(url: str, field: str, folder: Path, limit: int, progress: Callable[[], None]) -> Path:
    """The file behind a URL, in the folder. Raises Refused when it cannot be had or has more than `limit` bytes."""
    import fsspec

    class Bounded(fsspec.Callback):  # type: ignore[misc]
        """Counts what comes, and hears a request to stop."""

        def set_size(self, size: int | None) -> None:
            self._check(size or 0)
            super().set_size(size)

        def relative_update(self, inc: int = 1) -> None:
            progress()
            super().relative_update(inc)
            self._check(self.value)

        def _check(self, size: int) -> None:
            if size > limit:
                text = f"{field}: {url} has more than {limit} bytes, the most that this host fetches"
                raise refused(text, "give a smaller file, or ask the host's owner for limits.fetched_bytes")

    parts = urlsplit(url)
    target = folder / Path(parts.path).name
    options = _web(parts.hostname or "") if parts.scheme in ("http", "https") else _ANONYMOUS.get(parts.scheme, {})
    folder.mkdir(parents=True, exist_ok=True)
    try:
        files, path = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
        files.get_file(path, str(target), callback=Bounded())
    # Each library has errors of its own for what its service says; ours, and a request to stop, pass.
    except Exception as error:
        if type(error).__module__.startswith("fttrain."):
            raise
        text = f"{field}: {url} cannot be fetched: {str(error) or type(error).__name__}"
        raise refused(text, f"check {field}.path, and that the host may reach it") from error
    return target


def _web(host: str) -> dict[str, Any]:
    import aiohttp

    named = {str(info[4][0]) for info in _addresses(host)}

    def connect(info: Any) -> socket.socket:
        address = ip_address(str(info[4][0]).partition("%")[0])
        public = (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
        if not public.is_global and str(address) not in named:
            raise PermissionError(errno.EACCES, f"{address} is not a public address")
        return socket.socket(*info[:3])

    async def session(**how: Any) -> aiohttp.ClientSession:
        patience = aiohttp.ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
        connector = aiohttp.TCPConnector(socket_factory=connect)
        return aiohttp.ClientSession(connector=connector, timeout=patience, **how)

    return {"get_client": session}


def _addresses(host: str) -> list[Any]:
    """Where the host's owner allows rows to come from, also if it is inside."""
    try:
        return socket.getaddrinfo(host, None)
    except OSError:
        # The connection will fail, and say so.
        return []
