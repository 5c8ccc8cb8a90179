"""Supervised fine-tuning and pre-training: the rows' labels say which tokens are trained, and nothing here does."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer

from finetuned.v1 import training_pb2
from fttrain import arguments, losses
from fttrain.stages.parts import Ours, Parts

_LOSSES = {training_pb2.SFT_LOSS_DFT: "dft"}


class Sft:
    """Likelihood of the trained tokens."""

    needs_reference = False

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        return trainer(parts, arguments.stable(parts.spec, parts.checkpoints))


def trainer(parts: Parts, common: dict[str, Any]) -> Any:
    """The trainer with the arguments that every stage shares."""
    spec = parts.spec
    config = common | {
        "loss_type": _LOSSES.get(spec.sft.loss, "nll"),
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
    made = _SftTrainer(args=SFTConfig(**config), **parts.for_trainer())
    losses.score_labels_only(made.model)
    return made


class _SftTrainer(Ours, SFTTrainer):  # type: ignore[misc]
    pass
