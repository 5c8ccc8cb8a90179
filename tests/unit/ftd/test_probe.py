"""Which jobs are tried out first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.jobs import fake_job

from ftd.job import Job
from ftd.probe import wanted
from ftd.records import Attempt, MemoryEstimate, Outcome
from ftd.spec import Batch, DeviceKind, JobSpec, Probe, Resources, TrainingSpec


def job(folder: Path, choice: Probe | None, device: DeviceKind = DeviceKind.GPU, uncertainty: float = 0.35) -> Job:
    training = TrainingSpec(batch=Batch(4, 8), resources=Resources(device=device))
    estimate = MemoryEstimate((), 10, 12, "layer", uncertainty, 128, "test")
    return fake_job(folder, {}, spec=JobSpec(probe=choice), resolved=training, estimate=estimate)


@pytest.mark.parametrize(
    ("choice", "device", "uncertainty", "tried"),
    [
        (None, DeviceKind.GPU, 0.35, True),
        (Probe.AUTO, DeviceKind.GPU, 0.35, True),
        (Probe.AUTO, DeviceKind.GPU, 0.05, False),
        (Probe.AUTO, DeviceKind.GPU, 0.10, False),
        (Probe.AUTO, DeviceKind.CPU, 0.35, False),
        (Probe.ALWAYS, DeviceKind.CPU, 0.05, True),
        (Probe.NEVER, DeviceKind.GPU, 0.35, False),
    ],
)
def test_who_is_tried_out(
    tmp_path: Path, choice: Probe | None, device: DeviceKind, uncertainty: float, tried: bool
) -> None:
    assert wanted(job(tmp_path, choice, device, uncertainty)) is tried


def attempt(**fields: object) -> Attempt:
    return replace(Attempt(1, ("gpu",), 0.0, micro_batch=4), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "tried"),
    [
        (attempt(probe=True, outcome=Outcome.COMPLETED), False),
        # It was stopped, or the daemon died: nothing was measured.
        (attempt(probe=True, outcome=Outcome.STOPPED), True),
        # It has trained already: there is no better measurement.
        (attempt(step_seconds=1.0, outcome=Outcome.STOPPED), False),
        (attempt(outcome=Outcome.FAILED), True),
        # It was another shape, and ran out of memory.
        (attempt(probe=True, outcome=Outcome.COMPLETED, micro_batch=8), True),
        (attempt(step_seconds=1.0, micro_batch=4, gradient_checkpointing=True), True),
    ],
)
def test_what_has_run_is_not_tried_out_again(tmp_path: Path, before: Attempt, tried: bool) -> None:
    assert wanted(replace(job(tmp_path, Probe.ALWAYS), attempts=(before,))) is tried
