"""One connection to the daemon: how long a call waits, which calls are tried again, how a stream finds its place again.

The first connection fails at once and says what was tried. After that a daemon that goes away is expected back: calls
that change nothing, or carry a key, are repeated a few times, streams are started again for as long as `patience`
allows. Nothing here knows what the calls mean, nor whether they block.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import grpc

from ftclient import status
from ftclient.contexts import Context, Target
from ftclient.errors import ApiError, ContextError, DeadlineExceeded, FtError, Unavailable
from ftclient.transport import Credentials, Metadata, Method, Transport

# A stream that lost the daemon tries for so many seconds to find it again.
PATIENCE = 120.0
# A call without a `timeout` of its own may take so many seconds.
TIMEOUT = 30.0
# Seconds between the tries of one call.
RETRY_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
# Seconds between the tries to start a stream again: from, to.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Connection:
    """A channel that is opened at the first call, over `transport`."""

    def __init__(self, target: Target, transport: Transport, patience: float = PATIENCE) -> None:
        self.transport = transport
        self._target = target
        self._metadata: Metadata = _metadata(target.context)
        self._patience = patience
        self._open = False
        self._closed = False

    async def close(self) -> None:
        """Ends every call and stream that is open."""
        self._closed = True
        if self._open:
            await self.transport.close()

    async def call(
        self,
        method: Method,
        request: Any,
        *,
        timeout: float | None,
        repeatable: bool,
        request_id: str = "",
    ) -> Any:
        """The answer to one call within `timeout` seconds. Raises what `ftclient.errors` lists under ApiError."""
        deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        for pause in (*(RETRY_PAUSES if repeatable else ()), None):
            await self._connect()
            left = max(0.0, deadline - time.monotonic())
            try:
                return await self.transport.call(method, request, left, self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise status.to_error(error, request_id, method.name) from error
                if pause is None or time.monotonic() + pause > deadline:
                    raise await self._unavailable(error, request_id) from error
            await self.transport.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def messages(
        self,
        method: Method,
        request: Callable[[], Any],
        is_last: Callable[[Any], bool],
        *,
        deadline: float | None = None,
        repeatable: bool = True,
    ) -> AsyncGenerator[Any]:
        """A stream's messages up to the one that `is_last`; a `repeatable` one is started again when it is cut before.

        `request` is asked anew each time, and is to ask for what comes after the last message it saw; `deadline` is a
        time.monotonic. Raises Unavailable if the daemon does not come back, DeadlineExceeded, ApiError.
        """
        pauses = _Pauses(self._patience, deadline)
        while True:
            await self._connect()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            call = self.transport.open(method, request(), left, self._metadata)
            cut: grpc.RpcError | None = None
            try:
                async for message in call:
                    pauses.reset()
                    yield message
                    if is_last(message):
                        return
            except grpc.RpcError as error:
                cut = error
            finally:
                call.cancel()
            if cut is not None and not self._is_cut(cut):
                raise status.to_error(cut, method=method.name) from cut
            pause = pauses.take() if repeatable else None
            if pause is None:
                raise await self._gave_up(cut, deadline) from cut
            await self.transport.sleep(pause)

    async def _connect(self) -> None:
        """Opens the channel if it is not open. Raises Unavailable if nobody listens."""
        if self._closed:
            raise FtError("this client is closed")
        if self._open:
            return
        address = await self._choose()
        # Another call may have opened it meanwhile.
        if not self._open:
            self.transport.connect(address, _credentials(self._target))
            self._open = True

    def _is_cut(self, error: grpc.RpcError) -> bool:
        """Whether the daemon went away, as against: it refused. One that shuts down cancels its streams."""
        return not self._closed and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

    async def _gave_up(self, cut: grpc.RpcError | None, deadline: float | None) -> ApiError:
        if deadline is not None and time.monotonic() >= deadline:
            return DeadlineExceeded("the time given to the stream is over", code="DEADLINE_EXCEEDED")
        return await self._unavailable(cut, "")

    async def _unavailable(self, error: grpc.RpcError | None, request_id: str) -> ApiError:
        """Nobody answers; or the daemon did, that it cannot now, and why."""
        if error is not None and (told := status.to_error(error, request_id)).reason:
            return told
        tried = {}
        for address in self._target.addresses:
            tried[address] = (
                await self._probe(address) or _why(error, self._target) or "it answers, but not as it should"
            )
        return Unavailable(tried, request_id=request_id)

    async def _choose(self) -> str:
        """The first address at which somebody listens."""
        tried = {}
        for address in self._target.addresses:
            outcome = await self._probe(address)
            if not outcome:
                return address
            tried[address] = outcome
        raise Unavailable(tried)

    async def _probe(self, address: str) -> str:
        return await self.transport.run(lambda: _probe(address))


class _Pauses:
    """How long to wait before a stream is started again: longer each time, not longer than patience in all."""

    def __init__(self, patience: float, deadline: float | None) -> None:
        self._patience = patience
        self._deadline = deadline
        self.reset()

    def reset(self) -> None:
        """A message came: the daemon is there."""
        self._pause = FIRST_PAUSE
        self._since: float | None = None

    def take(self) -> float | None:
        """Seconds to wait, or None if it is time to give up."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now + self._pause - self._since > self._patience or (self._deadline is not None and now >= self._deadline):
            return None
        pause = self._pause if self._deadline is None else min(self._pause, self._deadline - now)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return pause


def _metadata(context: Context) -> Metadata:
    """Who asks, and in which trace, as whoever started this program has put it in its environment."""
    token = (("authorization", f"Bearer {context.token}"),) if context.token else ()
    trace = os.environ.get("TRACEPARENT", "")
    return (*token, ("traceparent", trace)) if trace and trace.isascii() and trace.isprintable() else token


def _credentials(target: Target) -> Credentials:
    """What TLS needs, None without TLS. Raises ContextError if a file cannot be read."""
    if not target.secure:
        return None
    context = target.context

    def read(path: str) -> bytes | None:
        try:
            return Path(path).read_bytes() if path else None
        except OSError as error:
            raise ContextError(f"{path}: cannot be read: {error.strerror}; {target.origin} names it") from None

    return grpc.ssl_channel_credentials(read(context.ca), read(context.key), read(context.cert))


def _why(error: grpc.RpcError | None, target: Target) -> str:
    """What gRPC says of an address that it could not use, and what that may mean."""
    details = (error.details() if error else "") or ""
    if target.secure:
        return f"{details}; is it a TLS port, signed by the `ca` given, and is the client's certificate known there?"
    if "Socket closed" in details or "EOF" in details or "Connection reset" in details:
        return f"{details}; a TLS port expects `tls = true` or a `ca` in its context"
    return details


def _probe(address: str) -> str:
    """Why nobody can be reached at a unix socket, empty if somebody listens. Other addresses only gRPC can try."""
    if not address.startswith("unix:"):
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2.0)
            probe.connect(address.removeprefix("unix:").removeprefix("//"))
    except FileNotFoundError:
        return "no such socket"
    except ConnectionRefusedError:
        return "nobody listens on this socket"
    except PermissionError:
        return "permission denied; are you in the group finetuned?"
    except OSError as error:
        return error.strerror or str(error)
    return ""
