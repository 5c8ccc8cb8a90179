"""Reading manifests: whether a checkpoint or output folder is complete, and what it holds.

A folder without a manifest, or with one file more, less or other than its manifest says, is not complete. Everything in
it was written by a job, so links and odd files make it incomplete, never an error.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from ftd.files import open_file, open_folder, read_file

NAME = "manifest.json"
LONGEST = 16 << 20


def read(root: Path, relative: str, job_id: str) -> trainer_pb2.Manifest | None:
    """The manifest of a folder that has all its files in their sizes; None if it is incomplete or of another job."""
    manifest = _parse(root, relative)
    if manifest is None or manifest.job_id != job_id:
        return None
    sizes = _sizes(root, relative)
    sizes.pop(NAME, None)
    return manifest if sizes == {file.path: file.bytes for file in manifest.files} else None


def verify(root: Path, relative: str, job_id: str) -> bool:
    """Whether a folder is complete, every byte of it read and compared."""
    manifest = read(root, relative, job_id)
    if manifest is None:
        return False
    try:
        return all(_sha256(root, f"{relative}/{file.path}") == file.sha256 for file in manifest.files)
    except OSError:
        return False


def _parse(root: Path, relative: str) -> trainer_pb2.Manifest | None:
    content = read_file(root, f"{relative}/{NAME}", LONGEST)
    if content is None:
        return None
    try:
        return json_format.Parse(content, trainer_pb2.Manifest(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError):
        return None


def _sizes(root: Path, relative: str) -> dict[str, int]:
    """Relative path -> bytes of everything below a folder; -1 for what is no regular file."""
    sizes: dict[str, int] = {}
    try:
        folder = open_folder(root, relative)
    except OSError:
        return sizes
    try:
        for parent, _, names, descriptor in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
            for name in names:
                path = os.path.normpath(os.path.join(parent, name))  # noqa: PTH118 - a key, never opened
                sizes[path] = _size(descriptor, name)
    finally:
        os.close(folder)
    return sizes


def _size(folder: int, name: str) -> int:
    try:
        file = open_file(folder, name)
    except OSError:
        return -1
    try:
        return os.fstat(file).st_size
    finally:
        os.close(file)


def _sha256(root: Path, relative: str) -> str:
    parent, _, name = relative.rpartition("/")
    folder = open_folder(root, parent)
    try:
        file = open_file(folder, name)
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
