"""The two ways to reach gRPC, each behind the same few words: one that blocks its thread, one for an event loop.

All that the SDK knows of calls is written once, as coroutines over a `Transport`. Those over `Blocking` never suspend,
so `finish` and `iterate` run them without a loop. Nothing here decides anything, and nothing else here knows channels.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]
Credentials = grpc.ChannelCredentials | None

OPTIONS = (
    # The bandwidth probe lets a stream's window grow to 4 MiB: a reader that is stuck would hoard memory.
    ("grpc.http2.bdp_probe", 0),
    # A daemon on another host that dies silently is noticed within 40 s; pings go on while a stream is quiet.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # Whether a call may be repeated is decided above, not by the library; and a restarted daemon is back in no time.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.primary_user_agent", "ftclient"),
)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service: its generated stub and its name."""

    stub: Callable[[Any], Any]
    name: str

    def on(self, channel: Any) -> Callable[..., Any]:
        """The method, to be called over that channel."""
        method: Callable[..., Any] = getattr(self.stub(channel), self.name)
        return method


class Messages(Protocol):
    """A stream that is open."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    def cancel(self) -> Any:
        """Ends it, if it has not ended."""


class Transport(Protocol):
    """A channel and a clock. Calls raise grpc.RpcError as grpc does."""

    def connect(self, address: str, credentials: Credentials) -> None:
        """Opens the channel; gRPC connects at the first call."""

    async def close(self) -> None:
        """Ends every call and stream."""

    async def call(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Any:
        """The answer to one request, or to an iterable of them where the method takes a stream."""

    def open(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Messages:
        """Begins a stream of answers."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of work that blocks, e.g. on a disk."""


class Blocking:
    """Every await blocks the calling thread until it is done. Safe to use from several threads."""

    _channel: grpc.Channel

    def connect(self, address: str, credentials: Credentials) -> None:
        """See Transport."""
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)

    async def close(self) -> None:
        """See Transport."""
        self._channel.close()

    async def call(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Any:
        """See Transport."""
        return method.on(self._channel)(request, timeout=timeout, metadata=metadata)

    def open(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Messages:
        """See Transport."""
        return _BlockingMessages(method.on(self._channel)(request, timeout=timeout, metadata=metadata))

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        time.sleep(seconds)

    async def run(self, work: Callable[[], T]) -> T:
        """See Transport."""
        return work()


class _BlockingMessages:
    def __init__(self, call: Any) -> None:
        self._call = call

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._call)
        except StopIteration:
            raise StopAsyncIteration from None

    def cancel(self) -> None:
        self._call.cancel()


class OnLoop:
    """Awaits suspend, on the event loop that runs at the first call; all later calls belong to that loop."""

    _channel: grpc.aio.Channel

    def connect(self, address: str, credentials: Credentials) -> None:
        """See Transport."""
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)

    async def close(self) -> None:
        """See Transport."""
        await self._channel.close()

    async def call(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Any:
        """See Transport."""
        return await method.on(self._channel)(request, timeout=timeout, metadata=metadata)

    def open(self, method: Method, request: Any, timeout: float | None, metadata: Metadata) -> Messages:
        """See Transport."""
        messages: Messages = method.on(self._channel)(request, timeout=timeout, metadata=metadata)
        return messages

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        await asyncio.sleep(seconds)

    async def run(self, work: Callable[[], T]) -> T:
        """See Transport."""
        return await asyncio.to_thread(work)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, which is over `Blocking` and therefore does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a coroutine over a blocking transport has suspended")


def iterate(items: AsyncGenerator[T]) -> Generator[T]:
    """What the generator yields, which is over `Blocking`; closing one closes the other."""
    try:
        with suppress(StopAsyncIteration):
            while True:
                yield finish(anext(items))
    finally:
        finish(items.aclose())
