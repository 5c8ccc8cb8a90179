"""Odds ratio preference optimisation, without a reference model. It must never compute the loss itself."""

from __future__ import annotations

from typing import Any

from fttrain.stages import pairs
from fttrain.stages.parts import Parts


class Orpo:
    """Likelihood of prompt and chosen answer, and the odds of the chosen answer against the rejected one."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        class OrpoTrainer(pairs.PairTrainer, ORPOTrainer):  # type: ignore[misc]
            pass

        config = pairs.config(parts) | {"beta": parts.spec.orpo.beta, "padding_value": None}
        return OrpoTrainer(args=ORPOConfig(**config), **pairs.for_trainer(parts, "orpo"))
