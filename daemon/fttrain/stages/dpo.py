"""Direct preference optimisation: TRL's losses by their own names, one or several. It must never compute one itself."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer

from finetuned.v1 import training_pb2
from fttrain import arguments, losses
from fttrain.machine import world_size
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
        # Each epoch gives a rank other rows, and ranks that share a model must ask it together.
        remembers = parts.disables_dropout and world_size() == 1
        kind = _RememberingDpoTrainer if remembers else _DpoTrainer
        trainer = kind(args=DPOConfig(**config), ref_model=parts.reference, **parts.for_trainer())
        losses.score_labels_only(trainer.model)
        if parts.reference is not None:
            losses.score_labels_only(trainer.ref_model)
        return trainer


def _name(loss: training_pb2.DpoLoss.ValueType) -> str:
    return training_pb2.DpoLoss.Name(loss).removeprefix("DPO_LOSS_").lower()


class _DpoTrainer(Prepared, DPOTrainer):  # type: ignore[misc]
    pass


class _RememberingDpoTrainer(_DpoTrainer):
    """Asks the reference once for each row: it does not move, and without dropout it answers the same again."""

    def __init__(self, **parts: Any) -> None:
        self._remembered: dict[bytes, tuple[float, float]] = {}
        super().__init__(**parts)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        inputs = inputs | self._reference(inputs)
        # What TRL takes from rows whose reference was computed before the training.
        self.precompute_ref_logps = True
        try:
            return super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.precompute_ref_logps = False

    def _reference(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The reference's log-probabilities of both answers, each (pairs,)."""
        names = ("ref_chosen_logps", "ref_rejected_logps")
        keys = _keys(inputs)
        if not all(key in self._remembered for key in keys):
            found = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            self._remembered |= dict(zip(keys, zip(*(each.tolist() for each in found), strict=True), strict=True))
            return dict(zip(names, found, strict=True))
        known = torch.tensor([self._remembered[key] for key in keys], device=inputs["input_ids"].device)
        return dict(zip(names, known.unbind(1), strict=True))


def _keys(inputs: dict[str, Any]) -> list[bytes]:
    """What tells each pair from all others: its tokens, and which of them answer."""
    # A token and whether it answers, as one number; padding is left out.
    tokens = (2 * inputs["input_ids"] + inputs["completion_mask"]).cpu()
    rows = [
        row[mask.bool()].numpy().tobytes() for row, mask in zip(tokens, inputs["attention_mask"].cpu(), strict=True)
    ]
    half = len(rows) // 2
    return [blake2b(b"-".join(pair), digest_size=16).digest() for pair in zip(rows[:half], rows[half:], strict=True)]
