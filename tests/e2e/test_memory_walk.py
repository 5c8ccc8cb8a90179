"""Memory as a user meets it: real trainings in a real daemon, one tried out, one that needs more than it may have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hands import RealDaemon

from ftclient import Client, Event, JobFailed, StepMetrics

ROWS = Path(__file__).parents[1] / "data" / "walk"


@pytest.fixture(scope="module")
def daemon(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    root = shutil.copytree(ROWS, tmp_path_factory.mktemp("memory"), dirs_exist_ok=True)
    with RealDaemon(root, smol_nano) as daemon:
        yield daemon


def losses(events: Iterator[Event]) -> dict[int, float]:
    steps = [event.kind for event in events if isinstance(event.kind, StepMetrics)]
    # A step that is told twice is an error.
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    return {step.step: step.loss for step in steps}


def test_a_trial_changes_nothing_and_a_cap_ends_its_own_job_alone(daemon: RealDaemon) -> None:
    few = ("--set", "schedule.epochs=1", "-q")
    too_small = ("--set", "resources.memory_bytes=300MiB", "--set", "batch.micro_batch=1")
    with Client(daemon.address) as client:
        tried, plain, capped = (
            daemon.ftctl("submit", "-f", "job.yaml", "--name", name, *few, *changes).ok.strip()
            for name, changes in (
                ("tried", ("--set", "probe=always")),
                ("plain", ("--set", "probe=never")),
                ("capped", too_small),
            )
        )
        assert [client.wait(job).state for job in (tried, plain)] == ["succeeded", "succeeded"]
        with pytest.raises(JobFailed, match=r"needs more than the 0\.29 GiB"):
            client.wait(capped)
        assert losses(client.metrics(tried)) == pytest.approx(losses(client.metrics(plain)))

        job = client.get(tried)
        assert [attempt.outcome for attempt in job.attempts] == ["completed", "completed"]
        assert any("trial" in move.reason.message for move in job.transitions if move.reason)

        failed = client.get(capped)
        assert failed.failure is not None
        assert failed.failure.failure_class == "out_of_host_memory"
        assert failed.failure.message == "the training needs more than the 0.29 GiB reserved for it on the host"
        # With recomputation it was tried, too.
        assert len(failed.attempts) == 2
