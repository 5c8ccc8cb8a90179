"""What a stage is, what it builds its trainer from, and what all of our trainers do differently from TRL's.

None of the differences is arithmetic: a loss is computed by TRL alone. It must never know a single stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peft import LoraConfig

from finetuned.v1 import event_pb2, training_pb2
from fttrain.callbacks import EvaluationStopped
from fttrain.report import Report
from fttrain.rows import Rows


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer is built from."""

    spec: training_pb2.TrainingSpec
    model: Any
    # The frozen model a preference loss compares with; None where the model without its adapter is that.
    reference: Any | None
    adapter: LoraConfig | None
    tokenizer: Any
    rows: Rows
    checkpoints: Path
    report: Report

    @property
    def evaluation_rows(self) -> Any | None:
        """The rows that are evaluated, if any are."""
        return self.rows.eval if self.spec.evaluation.cadence != training_pb2.CADENCE_NEVER else None

    @property
    def disables_dropout(self) -> bool:
        """Whether TRL turns dropout off: it would turn off the adapter's too, where the spec asks for that."""
        return self.adapter is None or self.adapter.lora_dropout == 0

    def for_trainer(self) -> dict[str, Any]:
        """Arguments that every TRL trainer takes."""
        return {
            "report": self.report,
            "model": self.model,
            "processing_class": self.tokenizer,
            "train_dataset": self.rows.train,
            "eval_dataset": self.evaluation_rows,
            "peft_config": self.adapter,
        }


class Stage(Protocol):
    """A training objective."""

    # Whether the loss compares with the model as it was before.
    needs_reference: bool

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""


class Ours:
    """Put before TRL's class in every trainer of ours."""

    def __init__(self, *, report: Report, **parts: Any) -> None:
        self._report = report
        super().__init__(**parts)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No draft beside the checkpoints: the card is written once, with the output."""

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """An evaluation that was stopped has no figures."""
        try:
            return dict(super()._evaluate(*args, **kwargs))  # type: ignore[misc]
        except EvaluationStopped:
            return {}

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._report.phase(event_pb2.PHASE_SAVING)
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]


class Prepared(Ours):
    """For a trainer that tokenises what it is given and has no switch for rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset
