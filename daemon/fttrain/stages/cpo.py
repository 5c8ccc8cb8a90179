"""Contrastive preference optimisation and SimPO, without a reference model. It must never compute the loss itself."""

from __future__ import annotations

from typing import Any

from finetuned.v1 import training_pb2
from fttrain.stages import pairs
from fttrain.stages.parts import Parts


class Cpo:
    """The chosen answer becomes likelier than the rejected one, and by a weight likelier by itself."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        class CpoTrainer(pairs.PairTrainer, CPOTrainer):  # type: ignore[misc]
            pass

        cpo = parts.spec.cpo
        config = pairs.config(parts) | {
            "beta": cpo.beta,
            "loss_type": training_pb2.CpoLoss.Name(cpo.loss).removeprefix("CPO_LOSS_").lower(),
            "label_smoothing": cpo.label_smoothing,
            "cpo_alpha": cpo.nll_weight,
            "simpo_gamma": cpo.gamma,
            # The reward is the log-probability, not AlphaPO's power of it.
            "alpha": 0.0,
        }
        return CpoTrainer(args=CPOConfig(**config), **pairs.for_trainer(parts, "cpo"))
