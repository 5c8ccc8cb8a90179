"""Real trainings that go on with less memory: smaller parts of the same updates, over the rows not yet seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import losses, steps, train

from finetuned.v1 import event_pb2
from fttrain.failure import Refused

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SAVING = "checkpoints { cadence: CADENCE_STEPS every_steps: 3 keep: 3 } optimizer { learning_rate: 5e-4 } "


@pytest.mark.parametrize(
    ("stage", "method", "before", "after"),
    [
        ("sft", "lora", "micro_batch: 4 global_batch: 4", "batch { micro_batch: 2 }"),
        # 8 rows: the second update of an epoch has two of them.
        ("sft", "full", "micro_batch: 3 global_batch: 6", "batch { micro_batch: 1 }"),
        ("pretrain", "lora", "micro_batch: 2 global_batch: 2", "batch { micro_batch: 1 }"),
        ("dpo", "lora", "micro_batch: 2 global_batch: 4", "batch { micro_batch: 1 }"),
        ("sft", "lora", "micro_batch: 1 global_batch: 4", "compute { gradient_checkpointing: true }"),
    ],
    ids=["half", "a third, short update", "no accumulation before", "pairs", "recomputation"],
)
def test_an_eased_run_has_the_losses_of_an_undisturbed_one(
    stage: str, method: str, before: str, after: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    spec = support.resolved_spec(smol_nano, stage, method, f"{SAVING} batch {{ {before} }}")
    train(support.bootstrap(tmp_path, spec, rows[stage]))
    whole = steps(tmp_path)

    eased = support.resolved_spec(smol_nano, stage, method, f"{SAVING} batch {{ {before} }} {after}")
    assert eased != spec
    train(support.bootstrap(tmp_path, eased, rows[stage], attempt=2, resume_from="checkpoint-3"))
    again = steps(tmp_path)[len(whole) :]
    assert [step.step for step in again] == [4, 5, 6, 7, 8]
    assert [step.loss for step in again] == pytest.approx([step.loss for step in whole[3:]], rel=1e-5)
    assert [step.learning_rate for step in again] == [step.learning_rate for step in whole[3:]]
    # The rows not yet seen, each of them and no other.
    assert [step.tokens for step in again] == [step.tokens for step in whole[3:]]


def test_what_is_trained_must_still_be_the_same(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, changes=SAVING + "schedule { max_steps: 3 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    spec.batch.global_batch = 8
    with pytest.raises(Refused, match="written under another spec"):
        train(support.bootstrap(tmp_path, spec, rows["sft"], attempt=2, resume_from="checkpoint-3"))


def test_the_mean_step_is_told_at_the_end(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, support.resolved_spec(smol_nano), rows["sft"])
    rank = support.start_rank(message)
    _, log = rank.communicate(timeout=120)
    assert rank.returncode == 0, log.decode()
    said = support.result(message)
    assert said.outcome == event_pb2.OUTCOME_COMPLETED
    taken = [step.step_seconds for step in steps(tmp_path)]
    assert said.step_seconds == pytest.approx(sum(taken[1:]) / len(taken[1:]))
    assert len(losses(tmp_path)) == 8
