"""Group relative policy optimisation: an answer is good where its reward is over that of the others to its prompt.

TRL computes the loss and draws the answers. It must never compute either itself.
"""

from __future__ import annotations

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from finetuned.v1 import online_pb2
from fttrain.stages import online
from fttrain.stages.parts import Parts

_SCALES = {
    online_pb2.REWARD_SCALE_GROUP: "group",
    online_pb2.REWARD_SCALE_BATCH: "batch",
    online_pb2.REWARD_SCALE_NONE: "none",
}


class Grpo:
    """Rewards of a group of answers, compared with each other."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        grpo = parts.spec.grpo
        config = online.grouped(parts, grpo) | {
            "loss_type": online_pb2.GrpoLoss.Name(grpo.loss).removeprefix("GRPO_LOSS_").lower(),
            "scale_rewards": _SCALES[grpo.scale_rewards],
            "importance_sampling_level": "token",
            "multi_objective_aggregation": "sum_then_normalize",
            "top_entropy_quantile": 1.0,
            "entropy_coef": 0.0,
            "cast_lm_head_to_fp32": False,
        }
        functions = online.reward_functions(parts, grpo.rewards)
        trainer = _GrpoTrainer(args=GRPOConfig(**config), reward_funcs=functions, **parts.for_trainer())
        online.compare_with(trainer, parts.reference, grpo.beta)
        return trainer


class _GrpoTrainer(online.Online, GRPOTrainer):  # type: ignore[misc]
    pass
