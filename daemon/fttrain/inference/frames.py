"""Messages over a stream socket: each comes after its length, as 4 bytes. It must never read beyond its message."""

from __future__ import annotations

import socket
from typing import TypeVar

from google.protobuf.message import Message

# A request is bounded by the daemon, to less.
MOST_BYTES = 4 << 20
M = TypeVar("M", bound=Message)


class Broken(ConnectionError):
    """The other side left in the middle of a message, or sent none of ours."""


def send(peer: socket.socket, message: Message) -> None:
    """Writes one message. Raises OSError."""
    data = message.SerializeToString()
    peer.sendall(len(data).to_bytes(4, "big") + data)


def receive(peer: socket.socket, message: M) -> M:
    """Reads one into `message`. Raises Broken, OSError, google.protobuf.message.DecodeError."""
    length = int.from_bytes(_exactly(peer, 4), "big")
    if length > MOST_BYTES:
        raise Broken(f"a message of {length} bytes is announced; at most {MOST_BYTES} are read")
    message.ParseFromString(_exactly(peer, length))
    return message


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise Broken("the connection ended in the middle of a message")
        data += part
    return data
