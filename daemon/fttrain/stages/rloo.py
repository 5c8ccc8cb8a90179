"""REINFORCE, leave one out: an answer is good where its reward is over the mean of the others to its prompt.

TRL computes the loss and draws the answers. It must never compute either itself.
"""

from __future__ import annotations

from typing import Any

from trl import RLOOConfig, RLOOTrainer

from fttrain.stages import online
from fttrain.stages.parts import Parts


class Rloo:
    """Rewards of answers, less the divergence from the model as it was, against the mean of the others."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        rloo = parts.spec.rloo
        config = online.grouped(parts, rloo) | {
            "normalize_advantages": rloo.normalize_advantages,
            "reward_clip_range": None,
        }
        functions = online.reward_functions(parts, rloo.rewards)
        trainer = _RlooTrainer(args=RLOOConfig(**config), reward_funcs=functions, **parts.for_trainer())
        online.compare_with(trainer, parts.reference, rloo.beta)
        return trainer


class _RlooTrainer(online.Online, RLOOTrainer):  # type: ignore[misc]
    pass
