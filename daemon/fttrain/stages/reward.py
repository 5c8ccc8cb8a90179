"""Reward models: a head of one number in place of the vocabulary's, higher for the chosen answer of a pair.

The head is new, so whatever else is frozen, it is trained. It must never be kept in 16 bits: it would lose its updates.
"""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from trl import RewardConfig, RewardTrainer

from finetuned.v1 import training_pb2
from fttrain import arguments
from fttrain.stages.parts import Ours, Parts


class Reward:
    """The difference of both rewards as the log-odds of the preference (Bradley and Terry)."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        spec = parts.spec
        config = arguments.stable(spec, parts.checkpoints) | {
            "center_rewards_coefficient": spec.reward.center_coefficient or None,
            "disable_dropout": parts.disables_dropout,
        }
        if not isinstance(parts.model, PeftModel):
            parts.model.score.requires_grad_(True)
        if parts.adapter is not None:
            # PEFT trains the head of such a model beside the adapter, and saves it with that.
            parts.adapter.task_type = "SEQ_CLS"
        trainer = _RewardTrainer(args=RewardConfig(**config), **parts.for_trainer())
        if spec.compute.precision != training_pb2.DTYPE_FP32:
            # Autocast computes it in 16 bits all the same.
            _widen_head(trainer.model)
        return trainer


def _widen_head(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.requires_grad and "score" in name.split("."):
            weight.data = weight.data.float()


class _RewardTrainer(Ours, RewardTrainer):  # type: ignore[misc]
    pass
