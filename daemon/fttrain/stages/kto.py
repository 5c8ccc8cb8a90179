"""Kahneman-Tversky optimisation: single answers, each good or bad, compared with the model as it was.

TRL takes these rows in order, each update's KL term from the prompts of a micro-batch with each other's answers. So the
rows are shuffled once, by the seed: answers to one prompt, or with one label, often stand side by side. It must never
compute the loss itself.
"""

from __future__ import annotations

from typing import Any

import numpy
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from fttrain import arguments, losses
from fttrain.stages.parts import Parts, Prepared

# Good answers should weigh as much as bad ones, or up to a third more: equation 8 of arXiv 2402.01306.
_MOST_GOOD = 4 / 3


class Kto:
    """Good answers gain on the model as it was, bad ones lose, both with diminishing sensitivity."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        spec = parts.spec
        config = arguments.stable(spec, parts.checkpoints) | {
            "loss_type": "kto",
            "beta": spec.kto.beta,
            "desirable_weight": spec.kto.desirable_weight,
            "undesirable_weight": spec.kto.undesirable_weight,
            "train_sampling_strategy": "sequential",
            "disable_dropout": parts.disables_dropout,
            "precompute_ref_log_probs": False,
            "sync_ref_model": False,
        }
        _tell_balance(parts)
        given = parts.for_trainer(lambda rows: rows.shuffle(seed=spec.seed, keep_in_memory=True))
        trainer = _KtoTrainer(args=KTOConfig(**config), ref_model=parts.reference, **given)
        padding = trainer.processing_class.pad_token_id
        losses.score_labels_only(trainer.model)
        if parts.reference is not None:
            losses.score_labels_only(trainer.ref_model)
        trainer.data_collator = _Mismatching(pad_token_id=padding, max_length=spec.data.max_length)
        return trainer


def _tell_balance(parts: Parts) -> None:
    """A notice when one label outweighs the other."""
    kto, labels = parts.spec.kto, numpy.asarray(parts.rows.train["label"])
    good, bad = int(labels.sum()), int((~labels).sum())
    weighed, against = good * kto.desirable_weight, bad * kto.undesirable_weight
    if against <= weighed <= _MOST_GOOD * against:
        return
    parts.report.notice(
        f"{good} good and {bad} bad answers weigh {weighed:g} to {against:g}; from 1 to 1 up to 4 to 3 is advised: "
        "change kto.desirable_weight or kto.undesirable_weight"
    )


class _KtoTrainer(Prepared, KTOTrainer):  # type: ignore[misc]
    pass


class _Mismatching(DataCollatorForUnpairedPreference):  # type: ignore[misc]
    """Gives each prompt the answer of the row before it as well, the first that of the last, as TRL's preparation."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        answers = [example["completion_ids"] for example in examples]
        others = [answers[-1], *answers[:-1]]
        return dict(
            super().torch_call(
                [example | {"KL_completion_ids": other} for example, other in zip(examples, others, strict=True)]
            )
        )
