"""The manifest of a checkpoint or output folder: its files with sizes and hashes, written last.

A folder is complete if and only if `verify` accepts it. Nothing of an incomplete folder is ever used, and pickles (the
optimizer and random states of a checkpoint) are read only from a folder that was verified.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2
from fttrain.files import sync_folder, write_message

NAME = "manifest.json"


class Incomplete(Exception):
    """The folder is not what its manifest says, or has none."""


def spec_digest(spec: training_pb2.TrainingSpec) -> str:
    """SHA-256 of the canonical bytes of what a resolved spec trains.

    In how many parts an update is computed is left out: a training that ran out of memory goes on in smaller ones.
    """
    trained = training_pb2.TrainingSpec()
    trained.CopyFrom(spec)
    trained.batch.ClearField("micro_batch")
    trained.evaluation.ClearField("micro_batch")
    trained.compute.ClearField("gradient_checkpointing")
    trained.compute.ClearField("padding_free")
    return hashlib.sha256(trained.SerializeToString(deterministic=True)).hexdigest()


def write(folder: Path, job_id: str, step: int, spec_digest: str, row_order: str = "") -> trainer_pb2.Manifest:
    """Syncs every file of `folder` and then puts the manifest beside them. Raises OSError."""
    manifest = trainer_pb2.Manifest(job_id=job_id, step=step, spec_digest=spec_digest, row_order=row_order)
    for path in _files(folder):
        manifest.files.append(_describe(folder, path, sync=True))
    for parent in {path.parent for path in _files(folder)} | {folder}:
        sync_folder(parent)
    manifest.time.FromNanoseconds(time.time_ns())
    write_message(folder / NAME, manifest)
    return manifest


def verify(folder: Path) -> trainer_pb2.Manifest:
    """The manifest of a complete folder, every byte of it checked. Raises Incomplete saying which file is wrong."""
    try:
        manifest = json_format.Parse((folder / NAME).read_text(), trainer_pb2.Manifest())
    except (OSError, UnicodeDecodeError, json_format.ParseError) as error:
        raise Incomplete(f"{folder.name} has no readable manifest") from error
    listed = {entry.path: entry for entry in manifest.files}
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if missing := sorted(listed.keys() - found.keys()):
        raise Incomplete(f"{folder.name} lacks {missing[0]}")
    if strange := sorted(found.keys() - listed.keys()):
        raise Incomplete(f"{folder.name} holds {strange[0]}, which is not in its manifest")
    for name, path in found.items():
        if path.stat().st_size != listed[name].bytes or _describe(folder, path) != listed[name]:
            raise Incomplete(f"{folder.name}: {name} is not what was written")
    return manifest


def size(manifest: trainer_pb2.Manifest) -> int:
    """Bytes of all files together."""
    return sum(entry.bytes for entry in manifest.files)


def _files(folder: Path) -> list[Path]:
    """Every file below `folder` but the manifest, in order. Links and devices are refused: we never make them."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Incomplete(f"{folder.name} holds {path.relative_to(folder)}, which is no ordinary file")
        if path.is_file() and path != folder / NAME:
            files.append(path)
    return files


def _describe(folder: Path, path: Path, *, sync: bool = False) -> trainer_pb2.ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
        length = file.tell()
    return trainer_pb2.ManifestFile(path=path.relative_to(folder).as_posix(), bytes=length, sha256=digest)
