"""Writing files so that a crash leaves the old one or the new one, never half of one. It must never follow a link."""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message


def write_atomically(path: Path, content: bytes) -> None:
    """Puts `content` at `path` in one move, on disk before it returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_message(path: Path, message: Message) -> None:
    """Puts a message at `path` as protobuf JSON, in one move."""
    write_atomically(path, json_format.MessageToJson(message).encode() + b"\n")


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable: a rename is on disk only after its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
