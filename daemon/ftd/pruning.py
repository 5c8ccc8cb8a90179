"""Removing checkpoints by hand: which of them nobody needs any more.

A job that can still go on needs its newest one, and the one of its best evaluation; a job to come needs what it takes.
An output is never removed alone: it goes with its job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ftd.errors import ArtifactNeeded, ArtifactNotFound
from ftd.files import read_file
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.origins import weights_in
from ftd.records import JobState
from ftd.rundir import OUTPUT, RunDirectory
from ftd.spec import TrainingSpec

_STATE_BYTES = 16 * 2**20


def remove(run: RunDirectory, job: Job, name: str, others: Iterable[Job]) -> None:
    """Removes a checkpoint; `others` are the jobs that have not ended. Blocks.

    Raises ArtifactNotFound, ArtifactNeeded.
    """
    if name == OUTPUT:
        raise ArtifactNeeded(name, "an output goes with its job; delete the job")
    names = [artifact.name for artifact in run.artifacts(job.output_path) if artifact.name != OUTPUT]
    if name not in names:
        raise ArtifactNotFound(f"job {job.id}", name, names)
    if job.state not in TERMINAL:
        raise ArtifactNeeded(
            name, f"job {job.id} is {job.state}, and keeps what it needs itself; wait until it has ended"
        )
    if job.state is not JobState.SUCCEEDED and name in (names[0], _best(run, names[0])):
        raise ArtifactNeeded(name, f"job {job.id} goes on from it if it is retried; delete the job")
    folder = str(run.path / "checkpoints" / name)
    users = [other.id for other in others if any(_lies_in(path, folder) for path in _paths(other.resolved))]
    if users:
        raise ArtifactNeeded(name, f"{', '.join(users)} needs it; wait for that job or cancel it")
    run.remove_checkpoint(name)


def _best(run: RunDirectory, newest: str) -> str:
    """The checkpoint of the best evaluation, as the newest one has it; empty without one."""
    content = read_file(run.path, f"checkpoints/{newest}/trainer_state.json", _STATE_BYTES)
    try:
        step = json.loads(content or b"{}").get("best_global_step")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f"checkpoint-{step}" if step else ""


def _paths(training: TrainingSpec) -> Iterator[str | None]:
    """Every folder of weights that a training reads."""
    yield training.model.path
    yield training.resume.path if training.resume else None
    for _, weights in weights_in(training):
        yield from (weights.path, weights.base_path)


def _lies_in(path: str | None, folder: str) -> bool:
    return path is not None and (path == folder or path.startswith(f"{folder}/"))
