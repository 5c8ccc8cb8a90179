"""The training objectives: one entry per stage of the spec, looked up by the name of its field.

A stage turns the spec into its TRL configuration and builds its TRL trainer. It must never tokenise or truncate: the
rows come prepared, and what was previewed is what is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from finetuned.v1 import event_pb2, training_pb2
from fttrain import arguments
from fttrain.callbacks import EvaluationStopped
from fttrain.report import Report
from fttrain.rows import Rows

_DPO_LOSSES = {
    training_pb2.DPO_LOSS_SIGMOID: "sigmoid",
    training_pb2.DPO_LOSS_HINGE: "hinge",
    training_pb2.DPO_LOSS_IPO: "ipo",
    training_pb2.DPO_LOSS_ROBUST: "robust",
}


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

    def for_trainer(self) -> dict[str, Any]:
        """Arguments that every TRL trainer takes."""
        evaluates = self.spec.evaluation.cadence != training_pb2.CADENCE_NEVER
        return {
            "report": self.report,
            "model": self.model,
            "processing_class": self.tokenizer,
            "train_dataset": self.rows.train,
            "eval_dataset": self.rows.eval if evaluates else None,
            "peft_config": self.adapter,
        }


class Sft:
    """Supervised fine-tuning and pre-training: the rows' labels say which tokens are trained."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        spec = parts.spec
        config = arguments.common(spec, parts.checkpoints) | {
            "loss_type": "nll",
            "packing": spec.data.packing,
            "packing_strategy": "bfd",
            "eval_packing": False,
            "padding_free": False,
            "shuffle_dataset": False,
            "completion_only_loss": False,
            "assistant_only_loss": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
        if spec.data.packing:
            # Packed batches have no padding, and their documents may contain the padding token.
            config["include_num_input_tokens_seen"] = "all"
        return _SftTrainer(args=SFTConfig(**config), **parts.for_trainer())


class Dpo:
    """Direct preference optimisation."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        spec = parts.spec
        config = arguments.common(spec, parts.checkpoints) | {
            "beta": spec.dpo.beta,
            "loss_type": [_DPO_LOSSES[spec.dpo.loss]],
            "loss_weights": None,
            "label_smoothing": spec.dpo.label_smoothing,
            # TRL's default would also turn off the adapter dropout that the spec asks for.
            "disable_dropout": parts.adapter is None or parts.adapter.lora_dropout == 0,
            "truncation_mode": "keep_start",
            "padding_free": False,
            "precompute_ref_log_probs": False,
            "sync_ref_model": False,
            "f_divergence_type": "reverse_kl",
            "use_weighting": False,
        }
        return _DpoTrainer(args=DPOConfig(**config), ref_model=parts.reference, **parts.for_trainer())


STAGES: dict[str, Sft | Dpo] = {"sft": Sft(), "pretrain": Sft(), "dpo": Dpo()}


def of(spec: training_pb2.TrainingSpec) -> Sft | Dpo:
    """The stage that the spec names."""
    return STAGES[str(spec.WhichOneof("stage"))]


class _Ours:
    """What both of our trainers do differently from TRL's, neither of it arithmetic."""

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


class _SftTrainer(_Ours, SFTTrainer):  # type: ignore[misc]
    pass


class _DpoTrainer(_Ours, DPOTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows are tokenised already; TRL has a switch for that in its SFT trainer only."""
        return dataset
