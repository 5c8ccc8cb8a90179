"""One channel to the daemon: where it listens, how long a call waits, and which calls are tried again.

The first connection fails at once and says what was tried. After that a daemon that goes away is expected back: calls
that change nothing, or carry a key, are repeated a few times, streams are started again for as long as `patience`
allows. Nothing here knows what the calls mean.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc

from ftclient import status
from ftclient.errors import ApiError, DeadlineExceeded, FtError, Unavailable

R = TypeVar("R")

# A call without a `timeout` of its own may take so many seconds.
TIMEOUT = 30.0
# Seconds between the tries of one call.
RETRY_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
# Seconds between the tries to start a stream again: from, to.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

OPTIONS = (
    # The bandwidth probe lets a stream's window grow to 4 MiB: a reader that is stuck would hoard memory.
    ("grpc.http2.bdp_probe", 0),
    # A daemon on another host that dies silently is noticed within 40 s; pings go on while a stream is quiet.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # Whether a call may be repeated is decided here, not by the library; and a restarted daemon is back in no time.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.primary_user_agent", "ftclient"),
)


def default_addresses(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Where to look for the daemon: FTD_ADDRESS alone if it is set, else the sockets it makes by default."""
    if given := environ.get("FTD_ADDRESS"):
        return (given,)
    runtime = environ.get("XDG_RUNTIME_DIR")
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    sockets = [f"{runtime}/finetuned/ftd.sock"] if runtime else []
    return (*(f"unix:{path}" for path in (*sockets, f"{state}/finetuned/ftd.sock", "/run/finetuned/ftd.sock")),)


class Connection:
    """A channel that is opened at the first call. Safe to use from several threads."""

    def __init__(self, addresses: tuple[str, ...], patience: float) -> None:
        self._addresses = tuple(f"unix:{a}" if a.startswith("/") else a for a in addresses)
        self._patience = patience
        self._channel: grpc.Channel | None = None
        self._closed = False

    @property
    def channel(self) -> grpc.Channel:
        """The channel, opened now if it is not. Raises Unavailable if nobody listens."""
        if self._closed:
            raise FtError("this client is closed")
        if self._channel is None:
            self._channel = grpc.insecure_channel(self._choose(), options=OPTIONS)
        return self._channel

    def close(self) -> None:
        """Ends every call and stream that is open."""
        self._closed = True
        if self._channel is not None:
            self._channel.close()

    def call(
        self,
        method: Callable[[grpc.Channel], Callable[..., R]],
        request: Any,
        *,
        timeout: float | None,
        repeatable: bool,
        request_id: str = "",
    ) -> R:
        """The answer to one call within `timeout` seconds. Raises what `ftclient.errors` lists under ApiError."""
        deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        for pause in (*(RETRY_PAUSES if repeatable else ()), None):
            try:
                return method(self.channel)(request, timeout=max(0.0, deadline - time.monotonic()))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise status.to_error(error, request_id) from error
                if pause is None or time.monotonic() + pause > deadline:
                    raise self._unavailable(error, request_id) from error
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def messages(
        self,
        start: Callable[[grpc.Channel, float | None], Any],
        is_last: Callable[[Any], bool],
        *,
        deadline: float | None = None,
    ) -> Iterator[Any]:
        """A stream's messages up to the one that `is_last`, started again whenever it is cut before.

        `start` is given the channel and the seconds left to `deadline` (a time.monotonic); it is to ask for what comes
        after the last message it saw. Raises Unavailable if the daemon does not come back, DeadlineExceeded, ApiError.
        """
        pauses = _Pauses(self._patience)
        while True:
            call = start(self.channel, None if deadline is None else max(0.0, deadline - time.monotonic()))
            cut: grpc.RpcError | None = None
            try:
                for message in call:
                    pauses.reset()
                    yield message
                    if is_last(message):
                        return
            except grpc.RpcError as error:
                cut = error
            finally:
                call.cancel()
            if cut is not None and not self._is_cut(cut):
                raise status.to_error(cut) from cut
            if not pauses.take(deadline):
                raise self._gave_up(cut, deadline) from cut

    def _is_cut(self, error: grpc.RpcError) -> bool:
        """Whether the daemon went away, as against: it refused. One that shuts down cancels its streams."""
        return not self._closed and error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

    def _gave_up(self, cut: grpc.RpcError | None, deadline: float | None) -> ApiError:
        if deadline is not None and time.monotonic() >= deadline:
            return DeadlineExceeded("the time given to the stream is over", code="DEADLINE_EXCEEDED")
        return self._unavailable(cut, "")

    def _unavailable(self, error: grpc.RpcError | None, request_id: str) -> ApiError:
        """Nobody answers; or the daemon did, that it cannot now, and why."""
        if error is not None and (told := status.to_error(error, request_id)).reason:
            return told
        tried = {}
        for address in self._addresses:
            tried[address] = _probe(address) or (error.details() if error else "") or "it answers, but not as it should"
        return Unavailable(tried, request_id=request_id)

    def _choose(self) -> str:
        """The first address at which somebody listens."""
        tried = {}
        for address in self._addresses:
            outcome = _probe(address)
            if not outcome:
                return address
            tried[address] = outcome
        raise Unavailable(tried)


class _Pauses:
    """How long to wait before a stream is started again: longer each time, not longer than patience in all."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """A message came: the daemon is there."""
        self._pause = FIRST_PAUSE
        self._since: float | None = None

    def take(self, deadline: float | None) -> bool:
        """Waits, or returns False if it is time to give up."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now + self._pause - self._since > self._patience or (deadline is not None and now >= deadline):
            return False
        time.sleep(self._pause if deadline is None else min(self._pause, deadline - now))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return True


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
