"""The checkpoints of a job: runs/<job>/checkpoints/checkpoint-<step>, complete when its manifest is there and true.

Nothing is read from a checkpoint before `manifest.verify` accepts it: its optimizer and random states are pickles. It
must never delete the newest complete checkpoint.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import manifest
from fttrain.failure import Refused

_PREFIX = "checkpoint-"


def folder(bootstrap: trainer_pb2.Bootstrap) -> Path:
    """Where the job's checkpoints are."""
    return Path(bootstrap.run_directory) / "checkpoints"


def to_resume(bootstrap: trainer_pb2.Bootstrap) -> Path | None:
    """The checkpoint to go on from, verified; None to start anew. Raises Refused when it is not whole or not ours."""
    if not bootstrap.resume_from:
        return None
    path = folder(bootstrap) / bootstrap.resume_from
    found = verified(path)
    if found.job_id != bootstrap.job_id:
        raise _not_usable(f"{path.name} belongs to job {found.job_id}")
    if found.spec_digest != manifest.spec_digest(bootstrap.spec):
        raise _not_usable(f"{path.name} was written under another spec")
    return path


def best(bootstrap: trainer_pb2.Bootstrap, step: int) -> Path:
    """The checkpoint of the best evaluation, verified. Raises Refused when it is not whole."""
    path = at(folder(bootstrap), step)
    verified(path)
    return path


def discard_unused(checkpoints: Path, resume: Path | None) -> None:
    """Removes what a former attempt left beyond the step this one starts from: the training will write it anew."""
    first_step = _step(resume) if resume else 0
    for path in _all(checkpoints):
        if _step(path) > first_step:
            shutil.rmtree(path)


def row_order(bootstrap: trainer_pb2.Bootstrap) -> str:
    """Which rows each update sees: equal for trainings that see the same rows in the same order. SHA-256."""
    spec = bootstrap.spec
    batch = spec.batch.global_batch
    # The folder of prepared rows is named by all that went into them.
    order = (spec.seed, spec.data.packing, spec.batch.group_by_length)
    told = (Path(bootstrap.prepared_directory).name, spec.WhichOneof("stage"), batch, *order)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def seal(checkpoints: Path, step: int, job_id: str, spec_digest: str, row_order: str = "") -> event_pb2.CheckpointSaved:
    """Writes the manifest of the checkpoint at `step`; from then on it is complete."""
    path = at(checkpoints, step)
    written = manifest.write(path, job_id, step, spec_digest, row_order)
    return event_pb2.CheckpointSaved(step=step, name=path.name, bytes=manifest.size(written))


def reopen(checkpoints: Path, step: int) -> None:
    """Makes the checkpoint at `step`, if there is one, an incomplete one, since it is written again."""
    (at(checkpoints, step) / manifest.NAME).unlink(missing_ok=True)


def prune(checkpoints: Path, count: int, best: int | None) -> None:
    """Removes all but the newest `count` and the one at the step `best`.

    The manifest goes first, so a half-removed one is never taken for whole.
    """
    for path in _all(checkpoints)[:-count]:
        if _step(path) != best:
            (path / manifest.NAME).unlink(missing_ok=True)
            shutil.rmtree(path)


def at(checkpoints: Path, step: int) -> Path:
    """The folder of the checkpoint at `step`."""
    return checkpoints / f"{_PREFIX}{step}"


def _all(checkpoints: Path) -> list[Path]:
    """Checkpoint folders, the oldest step first."""
    return sorted((path for path in checkpoints.glob(f"{_PREFIX}*") if path.is_dir()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def verified(path: Path) -> trainer_pb2.Manifest:
    """The manifest of a whole checkpoint. Raises Refused when it is not whole."""
    try:
        return manifest.verify(path)
    except manifest.Incomplete as error:
        raise _not_usable(str(error)) from error


def _not_usable(reason: str) -> Refused:
    return Refused(
        event_pb2.FAILURE_CLASS_INTERNAL,
        f"the training cannot go on from its checkpoint: {reason}",
        "retry the job; it goes on from the newest complete checkpoint, or starts anew",
    )
