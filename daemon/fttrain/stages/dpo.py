"""Direct preference optimisation: TRL's losses by their own names, one or several. It must never compute one itself."""

from __future__ import annotations

from typing import Any

from trl import DPOConfig, DPOTrainer

from finetuned.v1 import training_pb2
from fttrain import arguments
from fttrain.stages.parts import Parts, Prepared


class Dpo:
    """Chosen answers become likelier than rejected ones, compared with the model as it was."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        dpo = parts.spec.dpo
        config = arguments.stable(parts.spec, parts.checkpoints) | {
            "beta": dpo.beta,
            "loss_type": [_name(each.loss) for each in dpo.losses] or [_name(dpo.loss)],
            "loss_weights": [each.weight for each in dpo.losses] or None,
            "label_smoothing": dpo.label_smoothing,
            # With 1 all tokens weigh the same, which TRL does without two masks.
            "ld_alpha": dpo.ld_alpha if dpo.ld_alpha != 1 else None,
            "discopop_tau": 0.05,
            "disable_dropout": parts.disables_dropout,
            "truncation_mode": "keep_start",
            "padding_free": False,
            "precompute_ref_log_probs": False,
            "sync_ref_model": False,
            "f_divergence_type": "reverse_kl",
            "use_weighting": False,
        }
        return _DpoTrainer(args=DPOConfig(**config), ref_model=parts.reference, **parts.for_trainer())


def _name(loss: training_pb2.DpoLoss.ValueType) -> str:
    return training_pb2.DpoLoss.Name(loss).removeprefix("DPO_LOSS_").lower()


class _DpoTrainer(Prepared, DPOTrainer):  # type: ignore[misc]
    pass
