"""What a training is changed into when its memory did not suffice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftd.records import Attempt, Failure, FailureClass, MemoryEstimate, MemoryTerm
from ftd.relief import can_relieve, kept, relieve
from ftd.spec import Batch, Cadence, Compute, DeviceKind, Evaluation, Resources, TrainingSpec
from ftd.stages import Cpo, Dpo, DpoLoss, Kto, Orpo, Reward, Stage, WeightedDpoLoss


def training(micro: int, per_update: int, gpus: int | None = None, eval_micro: int | None = None) -> TrainingSpec:
    evaluation = Evaluation(Cadence.EPOCH, None, eval_micro) if eval_micro else Evaluation(Cadence.NEVER)
    return TrainingSpec(
        batch=Batch(micro, per_update),
        compute=Compute(gradient_checkpointing=False),
        evaluation=evaluation,
        resources=Resources(gpus=gpus),
    )


@pytest.mark.parametrize(
    ("micro", "per_update", "gpus", "smaller"),
    [
        (8, 16, None, 4),
        (2, 2, None, 1),
        (3, 24, None, 1),
        (6, 12, None, 3),
        (7, 56, None, 2),
        (5, 20, 4, 1),
        (4, 8, 2, 2),
    ],
)
def test_half_the_micro_batch_with_whole_accumulation(
    micro: int, per_update: int, gpus: int | None, smaller: int
) -> None:
    relief = relieve(training(micro, per_update, gpus))
    assert relief is not None
    batch = relief.resolved.batch
    assert (batch.micro_batch, batch.global_batch) == (smaller, per_update)
    assert per_update % (smaller * (gpus or 1)) == 0
    parts = per_update // (gpus or 1) // smaller
    assert relief.message == f"batch.micro_batch {micro} → {smaller}, each update in {parts} parts"


def test_the_whole_way_down() -> None:
    steps, now = [], training(2, 4, eval_micro=8)
    while (relief := relieve(now)) is not None:
        now = relief.resolved
        steps.append(relief.message)
    assert steps == [
        "batch.micro_batch 2 → 1, each update in 4 parts and evaluation.micro_batch 8 → 4",
        "evaluation.micro_batch 4 → 2",
        "evaluation.micro_batch 2 → 1",
        "compute.gradient_checkpointing on",
    ]
    assert (now.batch, now.evaluation.micro_batch) == (Batch(1, 4), 1)
    assert now.compute.gradient_checkpointing is True


def test_an_evaluation_that_names_no_batch_has_the_training_s() -> None:
    relief = relieve(TrainingSpec(batch=Batch(4, 8), evaluation=Evaluation(Cadence.STEPS, 10)))
    assert relief is not None
    assert relief.resolved.evaluation.micro_batch == 2


@pytest.mark.parametrize(
    ("failure_class", "device", "can"),
    [
        (FailureClass.OUT_OF_GPU_MEMORY, DeviceKind.GPU, True),
        (FailureClass.OUT_OF_HOST_MEMORY, DeviceKind.CPU, True),
        # A smaller micro-batch gives a host nothing back.
        (FailureClass.OUT_OF_HOST_MEMORY, DeviceKind.GPU, False),
        (FailureClass.INTERNAL, DeviceKind.GPU, False),
    ],
)
def test_only_the_memory_it_trains_in_can_be_relieved(
    failure_class: FailureClass, device: DeviceKind, can: bool
) -> None:
    assert can_relieve(Failure(failure_class, "x"), device) is can
    assert not can_relieve(None, device)


def test_what_was_too_little_is_not_lessened() -> None:
    estimate = MemoryEstimate((MemoryTerm("weights", 10),), 10, 12, "layer", 0.1, 128, "test")
    raised = kept(estimate, Attempt(3, ("gpu",), 0.0, reserved_bytes=20))
    assert (raised.reserve_bytes, raised.peak_bytes) == (20, 10)
    assert raised.terms[-1] == MemoryTerm("kept", 8, "as attempt 3 had, which ran out of memory")
    assert kept(estimate, Attempt(3, ("gpu",), 0.0, reserved_bytes=12)) is estimate


@pytest.mark.parametrize(
    "stage", [Kto(), Orpo(), Cpo(), Dpo(loss=DpoLoss.AOT), Dpo(losses=(WeightedDpoLoss(DpoLoss.SFT),))]
)
def test_a_loss_that_depends_on_the_rows_beside_a_row_keeps_its_micro_batch(stage: Stage) -> None:
    relief = relieve(replace(training(4, 8, eval_micro=4), stage=stage))
    assert relief is not None
    assert relief.resolved.batch == Batch(4, 8)
    assert relief.resolved.evaluation.micro_batch == 4
    assert relief.resolved.compute.gradient_checkpointing is True


@pytest.mark.parametrize("stage", [Reward(), Dpo(loss=DpoLoss.SIGMOID)])
def test_pairs_are_taken_in_smaller_parts(stage: Stage) -> None:
    relief = relieve(replace(training(4, 8), stage=stage))
    assert relief is not None
    assert relief.resolved.batch.micro_batch == 2
