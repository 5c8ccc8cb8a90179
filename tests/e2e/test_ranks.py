"""Real trainings of several ranks under real keepers: jobs side by side, and a rank that dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.attempts import Attempt, eventually

from finetuned.v1 import event_pb2

pytestmark = [
    pytest.mark.slow,
    # transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

# Four processes that load a training stack on two cores that others use as well.
PATIENCE = 240.0


def attempt(root: Path, model: Path, rows: Path, changes: str, **fields: Any) -> Attempt:
    """An attempt of two ranks that is not started yet."""
    made = Attempt(root, {}, ranks=2, command=(sys.executable, "-m", "fttrain.train"), **fields)
    made.bootstrap.spec.CopyFrom(support.resolved_spec(model, changes=changes))
    made.bootstrap.device_ids[:] = ["cpu", "cpu"]
    made.bootstrap.prepared_directory = str(rows)
    made.bootstrap.threads = 1
    made.bootstrap.environment["HOME"] = os.environ["HOME"]
    return made


def test_two_jobs_of_two_ranks_do_not_meet(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    changes = "schedule { max_steps: 4 }"
    alone = tmp_path / "alone"
    support.train(support.bootstrap(alone, support.resolved_spec(smol_nano, changes=changes), rows["sft"]))
    jobs = [attempt(tmp_path / name, smol_nano, rows["sft"], changes).start() for name in ("first", "second")]
    for job in jobs:
        assert job.ended(PATIENCE).outcome == event_pb2.OUTCOME_COMPLETED
        assert support.losses(job.run) == pytest.approx(support.losses(alone), rel=1e-5)


def test_a_rank_that_is_killed_ends_the_attempt_by_its_name(
    smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    job = attempt(tmp_path, smol_nano, rows["sft"], "schedule { max_steps: 100000 }").start()
    try:
        eventually(lambda: 2 in job.steps(), PATIENCE)
        os.kill(job.ranks()[1], signal.SIGKILL)
        ended = job.ended(PATIENCE)
    finally:
        job.stop(save=False)
    assert ended.outcome == event_pb2.OUTCOME_FAILED
    assert (ended.failure.failure_class, ended.failure.rank) == (event_pb2.FAILURE_CLASS_WORKER_KILLED, 1)
