"""Asks a chat: one question over the socket in its run directory, and the answer part by part.

The frames stand at ChatPart in trainer.proto. What a job can write is never trusted: a message is bounded, and one that
is none of ours ends the answer. It must never decide who may ask.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import chat_service_pb2
from ftd.errors import ChatEnded, InvalidRequest
from ftd.files import open_folder

NAME = "chat.sock"
# Of a part of an answer: some words.
_MOST_BYTES = 1 << 20
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(run: Path) -> Peer | None:
    """A connection to the chat of a run directory, None while nobody listens there."""
    with suppress(OSError):
        folder = open_folder(run)
        try:
            if stat.S_ISSOCK(os.stat(NAME, dir_fd=folder, follow_symlinks=False).st_mode):
                # By the folder's descriptor: a socket's path has at most 107 bytes, and ours may be longer.
                return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{NAME}")
        finally:
            os.close(folder)
    return None


async def ask(
    peer: Peer, request: chat_service_pb2.GenerateRequest
) -> AsyncGenerator[chat_service_pb2.GenerateResponse]:
    """The answer, to its end; closing it hangs up. Raises ChatEnded, InvalidRequest."""
    reader, writer = peer
    try:
        data = request.SerializeToString()
        writer.write(len(data).to_bytes(4, "big") + data)
        await writer.drain()
        while True:
            part = await _receive(reader)
            if part.refusal:
                raise InvalidRequest(part.refusal)
            yield part.answer
            if part.answer.HasField("end"):
                return
    except (ConnectionError, asyncio.IncompleteReadError, DecodeError):
        raise ChatEnded(request.job) from None
    finally:
        writer.close()


async def _receive(reader: asyncio.StreamReader) -> trainer_pb2.ChatPart:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > _MOST_BYTES:
        raise DecodeError(f"a part of {length} bytes")
    return trainer_pb2.ChatPart.FromString(await reader.readexactly(length))
