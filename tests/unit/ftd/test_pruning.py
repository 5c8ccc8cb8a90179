from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.jobs import fake_job
from tests.unit.ftd.test_rundir import checkpoint

from ftd import pruning
from ftd.errors import ArtifactNeeded
from ftd.job import Job
from ftd.methods import Lora
from ftd.records import JobState
from ftd.rundir import RunDirectories, RunDirectory
from ftd.spec import Model
from ftd.weights import Resume, Weights
from fttrain import manifest


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return replace(fake_job(tmp_path, {}), state=JobState.FAILED)


@pytest.fixture
def run(tmp_path: Path, job: Job) -> RunDirectory:
    """One with checkpoints at 10, 20, 30 and 40, of which that at 20 is the best."""
    made = RunDirectories(tmp_path / "runs").create(job)
    for step in (10, 20, 30):
        checkpoint(made, step)
    newest = checkpoint(made, 40, complete=False)
    (newest / "trainer_state.json").write_text(json.dumps({"best_global_step": 20}))
    manifest.write(newest, job.id, 40, "digest")
    return made


def left(run: RunDirectory) -> list[int]:
    return [artifact.step for artifact in run.artifacts()]


@pytest.mark.parametrize("step", [20, 40])
def test_the_newest_and_the_best_stay_while_a_retry_may_need_them(run: RunDirectory, job: Job, step: int) -> None:
    with pytest.raises(ArtifactNeeded, match="if it is retried"):
        pruning.remove(run, job, f"checkpoint-{step}", ())
    assert left(run) == [40, 30, 20, 10]
    pruning.remove(run, replace(job, state=JobState.SUCCEEDED), f"checkpoint-{step}", ())
    assert step not in left(run)


@pytest.mark.parametrize("state", ["not json", "[]", '{"best_global_step": null}'])
def test_without_a_best_one_only_the_newest_stays(run: RunDirectory, job: Job, state: str) -> None:
    newest = run.path / "checkpoints" / "checkpoint-40"
    (newest / "trainer_state.json").write_text(state)
    manifest.write(newest, job.id, 40, "digest")
    pruning.remove(run, job, "checkpoint-20", ())
    assert left(run) == [40, 30, 10]


def test_what_a_job_to_come_reads_stays(run: RunDirectory, job: Job) -> None:
    folder = str(run.path / "checkpoints" / "checkpoint-10")
    takers = (
        replace(job.resolved, resume=Resume(path=folder)),
        replace(job.resolved, model=Model(path=folder)),
        replace(job.resolved, model=Model(path="/m", adapters=(Weights(path=f"{folder}/sub"),))),
        replace(job.resolved, method=Lora(continue_from=Weights(path=folder))),
    )
    for resolved in takers:
        with pytest.raises(ArtifactNeeded, match="taker needs it"):
            pruning.remove(run, job, "checkpoint-10", (replace(job, id="taker", resolved=resolved),))
    other = replace(job.resolved, model=Model(path=f"{folder}0"))
    pruning.remove(run, job, "checkpoint-10", (replace(job, id="other", resolved=other),))
    assert left(run) == [40, 30, 20]


def test_a_removal_that_was_cut_short_is_finished_at_the_next_start(run: RunDirectory) -> None:
    folder = run.path / "checkpoints" / "checkpoint-10"
    doomed = folder.rename(folder.with_name(".deleted-checkpoint-10"))
    RunDirectories(run.path.parent).purge()
    assert not doomed.exists()
    assert left(run) == [40, 30, 20]
