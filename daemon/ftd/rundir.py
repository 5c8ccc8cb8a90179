"""Run directories: the layout of runs/<job>, made and removed by the daemon and filled by the job's processes.

The layout stands in trainer.proto. What a job can write is never trusted: see `ftd.files`. Everything here blocks; call
it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from finetuned.v1 import job_pb2, training_pb2
from ftd import manifest
from ftd.files import open_folder, read_file, refusing_full_disk, sync_folder, write_atomically
from ftd.job import Job
from ftd.records import Artifact, ArtifactFile, ArtifactKind
from ftd.wire import to_proto

OUTPUT = "output"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
# Deleted jobs and checkpoints are renamed to this prefix before their files go.
_DELETED = ".deleted-"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder of one job. Making this object touches nothing."""

    path: Path

    @property
    def events_path(self) -> Path:
        """Journal of TrainingEvent records."""
        return self.path / "events.journal"

    @property
    def logs_path(self) -> Path:
        """Journal of LogLine records."""
        return self.path / "logs.journal"

    @property
    def output_path(self) -> Path:
        """Where the result goes unless the spec says otherwise."""
        return self.path / OUTPUT

    def attempt(self, number: int) -> Path:
        """The folder of one attempt; 0 is the preparation."""
        return self.path / "attempts" / str(number)

    def new_attempt(self, number: int) -> Path:
        """Makes the folder of an attempt, empty: a preparation may be started again. Raises DiskFull."""
        folder = self.attempt(number)
        with refusing_full_disk():
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        return folder

    def read_attempt_file(self, number: int, name: str, limit: int) -> bytes | None:
        """Content of a file the attempt left; None if there is no such regular file of at most `limit` bytes."""
        return read_file(self.path, f"attempts/{number}/{name}", limit)

    def write_message(self, name: str, message: Message) -> None:
        """Puts a message at `name` below this folder as JSON. Raises DiskFull."""
        with refusing_full_disk():
            write_atomically(self.path / name, json_format.MessageToJson(message).encode() + b"\n")

    def latest_checkpoint(self) -> str:
        """Name of the newest checkpoint that is complete, every byte of it checked; empty if there is none."""
        names = (name for _, name in self._checkpoints())
        return next((name for name in names if manifest.verify(self.path, f"checkpoints/{name}", self.path.name)), "")

    def artifacts(self, output: str = "") -> tuple[Artifact, ...]:
        """The output, if it is complete, then complete checkpoints, newest first. Sizes are checked, hashes are not.

        `output` is the absolute path of the result where it is not in the run directory.
        """
        result = self._artifact(OUTPUT, Path(output) if output else self.output_path)
        checkpoints = (self._artifact(name, self.path / "checkpoints" / name) for _, name in self._checkpoints())
        return tuple(artifact for artifact in (result, *checkpoints) if artifact is not None)

    def remove_checkpoint(self, name: str) -> None:
        """Removes a checkpoint of that name with all that is in it. Raises OSError."""
        doomed = self.path / "checkpoints" / f"{_DELETED}{name}"
        doomed.with_name(name).rename(doomed)
        shutil.rmtree(doomed)

    def _checkpoints(self) -> list[tuple[int, str]]:
        """Step and name of every checkpoint folder, complete or not, newest first."""
        try:
            folder = open_folder(self.path, "checkpoints")
        except OSError:
            return []
        try:
            with os.scandir(folder) as entries:
                matches = [_CHECKPOINT.fullmatch(entry.name) for entry in entries]
        finally:
            os.close(folder)
        return sorted(((int(match[1]), match[0]) for match in matches if match), reverse=True)

    def _artifact(self, name: str, path: Path) -> Artifact | None:
        found = manifest.read(path.parent, path.name, self.path.name)
        if found is None:
            return None
        files = tuple(ArtifactFile(file.path, file.bytes, file.sha256) for file in found.files)
        kind = ArtifactKind.CHECKPOINT
        if name == OUTPUT:
            adapter = any(file.path == "adapter_config.json" for file in files)
            kind = ArtifactKind.ADAPTER if adapter else ArtifactKind.MODEL
        return Artifact(kind, name, str(path), found.step, files, sum(file.bytes for file in files))


class RunDirectories:
    """All run directories of a daemon, below one root that is its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, job_id: str) -> RunDirectory:
        """The folder of a job, whether it exists or not."""
        return RunDirectory(self.root / job_id)

    def reserve(self, job_id: str) -> None:
        """Makes the empty folder of a new job, where its readers can wait. Cheap: not synced. Raises DiskFull."""
        with refusing_full_disk():
            self.get(job_id).path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, job: Job) -> RunDirectory:
        """Makes the folder, with the spec as submitted and as resolved. May be repeated. Raises DiskFull."""
        run = self.get(job.id)
        self.reserve(job.id)
        with refusing_full_disk():
            sync_folder(self.root)
        run.write_message("spec.json", to_proto(job.spec, job_pb2.JobSpec))
        run.write_message("resolved.json", to_proto(job.resolved, training_pb2.TrainingSpec))
        return run

    def delete(self, job_id: str) -> None:
        """Removes a job's folder with all that is in it. No error if there is none. Raises OSError."""
        doomed = self.root / f"{_DELETED}{job_id}"
        with contextlib.suppress(FileNotFoundError):
            (self.root / job_id).rename(doomed)
        if doomed.exists():
            shutil.rmtree(doomed)

    def purge(self) -> None:
        """Finishes deletions that were cut short. Raises OSError."""
        for doomed in (*self.root.glob(f"{_DELETED}*"), *self.root.glob(f"*/checkpoints/{_DELETED}*")):
            shutil.rmtree(doomed)
