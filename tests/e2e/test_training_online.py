"""Stages whose model writes the answers it is trained on: they learn what a reward asks for, and say how it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import steps, train

from finetuned.v1 import event_pb2
from fttrain import manifest

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = {
    ("grpo", "lora"): "optimizer { learning_rate: 1e-2 } grpo { beta: 0.01 }",
    ("grpo", "full"): "optimizer { learning_rate: 1e-3 } grpo { beta: 0.01 }",
    ("rloo", "lora"): "optimizer { learning_rate: 1e-2 }",
    ("rloo", "full"): "optimizer { learning_rate: 1e-3 }",
}
LEARNS = 'schedule { max_steps: 8 warmup_ratio: 0 name: "constant" } batch { micro_batch: 16 global_batch: 16 } '


@pytest.mark.parametrize(("stage", "method"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_the_reward_rises(stage: str, method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(
        smol_nano, stage, method, LEARNS + KINDS[stage, method] + "compute { padding_free: false }"
    )
    result = train(support.bootstrap(tmp_path, spec, rows["prompts"]))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    extra = [step.extra for step in steps(tmp_path)]
    assert sum(each["reward"] for each in extra[-3:]) > 1.5 * sum(each["reward"] for each in extra[:3])
    manifest.verify(tmp_path / "output")
