"""Distillation: the model writes an answer, and learns a teacher's probabilities of each next token in it.

TRL computes the divergence and draws the answers. It must never compute either itself.
"""

from __future__ import annotations

from typing import Any

from trl import DistillationConfig, DistillationTrainer

from fttrain.stages import online
from fttrain.stages.parts import Parts


class Distill:
    """The divergence between the model's and the teacher's next tokens."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        distill = parts.spec.distill
        online.need_prompts(parts, parts.spec.batch.global_batch)
        config = online.config(parts, distill.sampling) | {"beta": distill.beta}
        teacher = parts.frozen("distill.teacher", distill.teacher)
        return _DistillTrainer(args=DistillationConfig(**config), teacher_model=teacher, **parts.for_trainer())


class _DistillTrainer(online.Online, DistillationTrainer):  # type: ignore[misc]
    pass
